"""What was revoked before it expired: a user's URLs, one URL, or all of an application.

A revocation is about URLs that were signed up to its moment; what a backend signs afterwards is
good again. It may be forgotten when the last of them has expired.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

__all__ = ["Revocation", "Revocations"]


@dataclass(frozen=True, slots=True)
class Revocation:
    """URLs of `app` signed at `before` or earlier: of `user`, with `signature`, or all of them.

    Moments are microseconds since the epoch.
    """

    app: str
    before: int
    until: int
    """when all URLs that it is about have expired"""
    user: str = ""
    signature: str = field(default="", repr=False)


class Revocations:
    """All revocations that hold, for a look at each call. False if there is none."""

    def __init__(self, revocations: Iterable[Revocation] = ()) -> None:
        self._before: dict[tuple[str, str, str], int] = {}
        for each in revocations:
            key = (each.app, each.user, each.signature)
            self._before[key] = max(each.before, self._before.get(key, 0))

    def __bool__(self) -> bool:
        return bool(self._before)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Revocations) and self._before == other._before

    __hash__ = None  # type: ignore[assignment]

    def revoked(self, app: str, user: str, signature: str, signed: int) -> bool:
        """Tell whether a URL signed at `signed` for `user` ("" for none) is revoked."""
        before = self._before
        keys = [(app, "", ""), (app, "", signature)]
        if user:
            keys.append((app, user, ""))
        return any(signed <= before.get(key, -1) for key in keys)
