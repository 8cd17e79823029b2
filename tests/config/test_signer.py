"""Signing with a configuration: as whom, with which secret, and whether it will pass."""

import pytest

from swproxy.config.config import App, Config, Limits
from swproxy.config.signer import choose, doubt, example_url, first_secret
from swproxy.policy.destination import Pattern, parse_destination

ONE = App("one", ("old", "new"), (Pattern.parse("https://api.example/v1/*"),))
TWO = App("two", ("secret",), (Pattern.parse("*"),))


def test_the_only_application_is_chosen() -> None:
    assert choose(Config(apps={"one": ONE}), None) is ONE


def test_one_of_several_has_to_be_named() -> None:
    config = Config(apps={"one": ONE, "two": TWO})
    assert choose(config, "two") is TWO
    with pytest.raises(ValueError, match="--app for which application: one, two"):
        choose(config, None)
    with pytest.raises(ValueError, match="there is no application three"):
        choose(config, "three")
    with pytest.raises(ValueError, match="none yet"):
        choose(Config(), None)


def test_the_oldest_secret_signs() -> None:
    assert first_secret(ONE) == "old"


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("https://api.example/v1/models", None),
        ("https://api.example/v2/models", "destination-not-allowed"),
        ("ftp://api.example/v1/", "destination-invalid"),
    ],
)
def test_doubt(url: str, code: str | None) -> None:
    refusal = doubt(Config(), ONE, url, 60)
    assert (refusal.code if refusal else None) == code


def test_a_longer_expiry_than_the_limit_is_doubted() -> None:
    config = Config(limits=Limits(expiry_seconds=60))
    assert doubt(config, ONE, "https://api.example/v1/models", 60) is None
    refusal = doubt(config, ONE, "https://api.example/v1/models", 61)
    assert refusal is not None
    assert refusal.code == "expiry-too-long"
    assert "61" in refusal.detail
    assert "limits.expiry_seconds is 60" in refusal.detail


@pytest.mark.parametrize("app", [TWO, None])
def test_a_private_destination_is_doubted_and_the_key_named(app: App | None) -> None:
    refusal = doubt(Config(), app, "http://10.1.2.3:8000/v1/x", 60)
    assert refusal is not None
    assert refusal.code == "destination-not-public"
    assert '"10.1.2.3/32" to upstream.private_networks' in refusal.detail


@pytest.mark.parametrize(
    "pattern",
    ["*", "https://api.example/v1/*", "https://*.example.com/*", "http://a.example:81/x"],
)
def test_example_url_is_one_that_the_pattern_covers(pattern: str) -> None:
    assert Pattern.parse(pattern).matches(parse_destination(example_url(pattern)))
