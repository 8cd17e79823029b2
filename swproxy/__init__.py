"""swproxy lets a web page call a third-party API directly, without ever seeing its key.

A backend imports this package for one function, `sign_url`; so importing it loads nothing but
a few modules of the standard library, and the proxy itself only when it is run.

The source is a tower, the house; each package is a room, which imports only rooms below it:

    cli     what is typed and what is printed
    demo    all of it at work on one machine
    daemon  a process's life: sockets, workers, signals, reload, drain, metrics, log
    proxy   a request's life: from a client's connection to the end of the answer
    net     sockets: dialled, kept, and bytes moved from one to another
    quota   what has been used up, and whether one more call may begin
    http    what is on the wire: heads, framing, frames, answers of our own
    config  how a configuration is read, written and explained
    policy  rules as values: destinations, addresses, headers, origins, problems
    sw1     the signing scheme

docs/architecture.md follows a request through them, file by file.
"""

from swproxy.sw1.sign import sign_url

__all__ = ["__version__", "sign_url"]

__version__ = "0.1.0"
