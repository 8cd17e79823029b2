"""What a cut answer is taken to have used, by what is known of it."""

import pytest

from swproxy.http.usage import Usage
from swproxy.proxy.metering import estimate

NOTHING = Usage()
BEGUN = Usage(25, 1, cached=5, model="claude")
TOTALS = Usage(8, 516, reasoning=504, model="gemini")


@pytest.mark.parametrize(
    ("usage", "events", "sent", "received", "read", "written"),
    [
        (NOTHING, 0, 0, 0, 0, 0),
        (NOTHING, 0, 400, 0, 100, 0),
        (NOTHING, 30, 400, 9000, 100, 30),
        (NOTHING, 0, 400, 9000, 100, 2250),
        (BEGUN, 40, 400, 9000, 25, 40),
        (BEGUN, 1, 400, 300, 25, 1),
        (TOTALS, 2, 400, 900, 8, 516),
        (Usage(19, 10), 13, 400, 900, 19, 10),
    ],
    ids=[
        "nothing",
        "no answer",
        "events",
        "a document",
        "events behind a beginning",
        "a beginning",
        "running totals",
        "a total, and a few events that were no tokens",
    ],
)
def test_estimates(
    usage: Usage, events: int, sent: int, received: int, read: int, written: int
) -> None:
    found = estimate(usage, events, sent, received)
    assert (found.input, found.output) == (read, written)
    assert (found.cached, found.model) == (usage.cached, usage.model)
