"""What strangers repeat is counted by address and second, in bounded memory."""

from swproxy.daemon.repeats import BURST, MOST_ADDRESSES, OTHERS, Repeats


def told(repeats: Repeats, second: int) -> list[tuple[str, int, dict[str, int]]]:
    return [(each.client, each.count, dict(each.codes)) for each in repeats.ended(second)]


def test_a_few_pass_and_the_rest_is_a_sum() -> None:
    repeats = Repeats()
    assert told(repeats, 1) == []
    passed = [repeats.passes("192.0.2.1", "a" if number % 3 else "b") for number in range(30)]
    assert passed == [True] * BURST + [False] * (30 - BURST)
    assert repeats.passes("192.0.2.2", "a")
    assert told(repeats, 1) == []
    assert told(repeats, 2) == [("192.0.2.1", 30 - BURST, {"a": 17, "b": 8})]
    assert told(repeats, 3) == []
    assert repeats.passes("192.0.2.1", "a")


def test_an_address_that_is_not_known_is_one_as_well() -> None:
    repeats = Repeats()
    assert [repeats.passes("", "a") for _ in range(BURST + 1)] == [True] * BURST + [False]
    assert told(repeats, 1) == [("", 1, {"a": 1})]


def test_beyond_so_many_addresses_strangers_share_a_sum() -> None:
    repeats = Repeats()
    addresses = [str(number) for number in range(2 * MOST_ADDRESSES)]
    assert sum(repeats.passes(each, "a") for each in addresses) == MOST_ADDRESSES
    assert told(repeats, 1) == [(OTHERS, MOST_ADDRESSES, {"a": MOST_ADDRESSES})]
