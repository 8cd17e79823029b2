"""When two names are one."""

import pytest

from swproxy.policy.field_names import field_names, folded


@pytest.mark.parametrize("name", [b"X-User-Id", b"x_user_id", b"X.User.Id", b"x-user_ID"])
def test_what_a_cgi_server_takes_for_one_name_is_one(name: bytes) -> None:
    assert folded(name) == b"x-user-id"


def test_letters_and_digits_tell_names_apart() -> None:
    names = [b"x-a1", b"x-a2", b"xa1", b"x--a1"]
    assert len({folded(name) for name in names}) == len(names)


def test_names_of_a_text() -> None:
    assert field_names(" a-b  c\n") == {b"a-b", b"c"}
