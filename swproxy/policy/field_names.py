"""Names of header fields, and when two of them are one to whoever reads the message next.

Servers of the CGI family hand a field to a program as a variable, in which `_` stands for every
character that is neither a letter nor a digit: `X_User_Id`, `X.User.Id` and `X-User-Id` are one
name there, and which of the values wins is anybody's guess. So names are compared folded.
"""

import string
from typing import Final

__all__ = ["Header", "field_names", "folded"]

Header = tuple[bytes, bytes]
"""A field's name and value, as they stand on the wire."""

_PLAIN: Final = (string.ascii_letters + string.digits).encode()
_FOLDING: Final = bytes(byte if byte in _PLAIN else 0x2D for byte in range(256)).lower()


def folded(name: bytes) -> bytes:
    """Return what two names have in common that a server may take for one."""
    return name.translate(_FOLDING)


def field_names(text: str) -> frozenset[bytes]:
    """Return the names that a text lists, for the tables of a policy."""
    return frozenset(text.encode("ascii").split())
