"""The exceptions by which a request fails once it has been found good."""

import errno

__all__ = ["EXHAUSTED", "CallEnded", "DownstreamGone", "TimeSpent", "UpstreamFailure"]

EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""What the kernel says when it has no room for another socket, now."""


class UpstreamFailure(Exception):  # noqa: N818 - its name says whose failure it is
    """The upstream did not answer, or not with HTTP.

    `code` names the problem (see `policy.problems`), `detail` is fit for the client's eyes: no
    address of ours, no header, no text of the upstream's.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class DownstreamGone(Exception):  # noqa: N818 - a client going away is no error
    """The client closed its connection, or stopped taking bytes for too long."""


class CallEnded(Exception):  # noqa: N818 - ended on purpose
    """The call may not go on, although it was let begin; `code` and `detail` as above."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class TimeSpent(Exception):  # noqa: N818 - a call that ends by its terms is no error
    """The call has lasted as long as it may."""
