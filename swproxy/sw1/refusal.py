"""The one exception by which the pure rooms say no."""

__all__ = ["Refusal"]


class Refusal(Exception):  # noqa: N818 - a decision about a request, not an error of the program
    """A request that will not be served, for a reason that lies in the request itself.

    `code` is stable and machine-readable (kebab-case); `detail` is a sentence for whoever made
    the request. `for_operator` is what only the log may say: what is inside, and how to mend it.
    None of them ever carries a secret, a signature or a configured header. `status` is an HTTP
    status for the few codes that have more than one; None for the code's own.
    """

    def __init__(
        self, code: str, detail: str, *, status: int | None = None, for_operator: str = ""
    ) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.status = status
        self.for_operator = for_operator
