"""The fuzz target of the scheme, for as many cases as a test may take."""

import random

from tests.support.fuzz_sw1 import CASE_BYTES, fuzz_one


def test_the_invariant_holds_for_a_few_thousand_cases() -> None:
    dice = random.Random(20_261_122)
    outcomes = [fuzz_one(dice.randbytes(CASE_BYTES)) for _ in range(3000)]
    # Both sides of the invariant must have been tried.
    assert outcomes.count(True) > 300
    assert outcomes.count(False) > 300


def test_any_bytes_are_a_case() -> None:
    for data in (b"", b"\0", b"\xff" * CASE_BYTES, b"\x01" * 10):
        assert fuzz_one(data) in (True, False)
