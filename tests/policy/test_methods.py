"""Which methods may be repeated, and which say where their request ends."""

import pytest

from swproxy.policy.methods import idempotent, in_doubt, wants_length


@pytest.mark.parametrize(
    ("method", "repeatable", "length", "doubt", "doubt_with_body"),
    [
        (b"GET", True, False, False, True),
        (b"HEAD", True, False, True, True),
        (b"OPTIONS", True, False, False, True),
        (b"DELETE", True, False, False, True),
        (b"PUT", True, True, False, False),
        (b"POST", False, True, False, False),
        (b"PATCH", False, True, False, False),
        (b"LOCK", False, False, False, False),
        (b"get", False, False, False, False),
    ],
)
def test_methods(
    method: bytes, *, repeatable: bool, length: bool, doubt: bool, doubt_with_body: bool
) -> None:
    assert idempotent(method) == repeatable
    assert wants_length(method) == length
    assert in_doubt(method, body=False) == doubt
    assert in_doubt(method, body=True) == doubt_with_body
