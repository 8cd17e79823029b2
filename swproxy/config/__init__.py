"""How a configuration is read, written and explained.

From files to one frozen `Config`, or to the list of all that is wrong with them; from an operator's
wish to a changed application file; from a signed URL to the reason why it is accepted or refused.
The room knows no request that is being served and no event loop, and only `loader` opens files of a
configuration. Begin with `config`, the values that the rest of the house is given, then `assembly`,
which makes them out of TOML's tables.
"""

__all__ = ["DEFAULT_CONFIG"]

DEFAULT_CONFIG = "swproxy.toml"
"""Where every command looks for a configuration that is not named: in the current directory."""
