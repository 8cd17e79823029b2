"""What is revoked is what was signed up to the moment, of whom it says, and nothing else."""

from swproxy.quota.revocations import Revocation, Revocations


def test_a_user_an_url_or_all() -> None:
    revoked = Revocations(
        [
            Revocation("chat", 100, 900, user="42"),
            Revocation("chat", 200, 900, signature="ab" * 32),
            Revocation("images", 300, 900),
        ]
    ).revoked
    assert revoked("chat", "42", "cd" * 32, 100)
    assert not revoked("chat", "42", "cd" * 32, 101)
    assert not revoked("chat", "43", "cd" * 32, 100)
    assert not revoked("chat", "", "cd" * 32, 100)
    assert revoked("chat", "43", "ab" * 32, 200)
    assert not revoked("images", "43", "ab" * 32, 301)
    assert revoked("images", "", "ef" * 32, 300)
    assert not revoked("other", "42", "ab" * 32, 100)


def test_none_is_false_and_the_later_of_two_holds() -> None:
    assert not Revocations()
    twice = Revocations([Revocation("chat", 100, 900), Revocation("chat", 50, 900)])
    assert twice
    assert twice.revoked("chat", "", "ab", 100)


def test_a_url_is_not_in_the_repr() -> None:
    assert "5ec2e7" not in repr(Revocation("chat", 1, 2, signature="5ec2e7"))
