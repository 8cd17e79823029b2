"""swproxy lets a web page call a third-party API directly, without ever seeing its key.

A backend imports this package for one function, `sign_url`; so importing it loads nothing but
a few modules of the standard library, and the proxy itself only when it is run.
"""

from swproxy.sw1.sign import sign_url

__all__ = ["__version__", "sign_url"]

__version__ = "0.1.0"
