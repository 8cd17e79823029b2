"""Secrets that come back in an answer's fields, however they are written there."""

from base64 import b64encode, urlsafe_b64encode
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swproxy.policy.credentials import credentials, without_credentials

KEY = (b"Authorization", b"Bearer sk-canary-1234567890")
OTHER = (b"etag", b"a")


@pytest.mark.parametrize(
    ("field", "secrets"),
    [
        (KEY, [b"sk-canary-1234567890"]),
        ((b"proxy_authorization", b"Basic dXNlcjpwdw=="), [b"dXNlcjpwdw=="]),
        (
            (b"Authorization", b"Basic " + b64encode(b"user:canary-pw")),
            [b64encode(b"user:canary-pw"), b"user:canary-pw", b"canary-pw"],
        ),
        ((b"Authorization", b"Basic not base64, canary"), [b"not base64, canary"]),
        ((b"Authorization", b"bare-canary"), [b"bare-canary"]),
        ((b"X-Api-Key", b"canary with blanks"), [b"canary with blanks"]),
        ((b"X-Anything", b"canary-1"), [b"canary-1"]),
        ((b"Cookie", b"a=1; session=canary-1"), [b"canary-1"]),
    ],
)
def test_a_secret_does_not_come_back(field: tuple[bytes, bytes], secrets: list[bytes]) -> None:
    assert credentials([field]) == secrets
    for secret in secrets:
        echoed = b'{"got": "Bearer ' + secret + b'"}'
        leaks = [(b"x-echo", secret), (b"x-echo", echoed), (b"x-echo", secret.upper())]
        assert without_credentials([*leaks, OTHER], (field,)) == [OTHER]


@pytest.mark.parametrize(
    "field",
    [
        (b"Accept", b"application/json"),
        (b"Content-Type", b"application/json"),
        (b"User-Agent", b"application/json"),
        (b"Anthropic-Version", b"application/json"),
        (b"OpenAI-Beta", b"application/json"),
        (b"X-Short", b"json"),
    ],
)
def test_what_says_how_to_speak_is_no_secret(field: tuple[bytes, bytes]) -> None:
    assert credentials([field]) == []
    answer = [(b"content-type", b"application/json")]
    assert without_credentials(answer, (field,)) == answer


@pytest.mark.parametrize("name", [b"%b", b"x-%b", b"x-%b-y"])
def test_nor_as_a_name(name: bytes) -> None:
    secret = KEY[1].removeprefix(b"Bearer ")
    leak = (name % secret.lower(), b"value")
    assert without_credentials([leak, OTHER], (KEY,)) == [OTHER]


secrets = st.binary(min_size=8, max_size=40).filter(lambda secret: secret == secret.strip())


@given(secrets, st.binary(max_size=5), st.binary(max_size=5))
def test_nor_in_an_encoding(secret: bytes, before: bytes, behind: bytes) -> None:
    app = ((b"X-Key", secret),)
    whole = before + secret + behind
    written = [
        b64encode(whole),
        b64encode(whole).rstrip(b"="),
        urlsafe_b64encode(whole),
        whole.hex().encode(),
        whole.hex().upper().encode(),
        quote(whole, safe="").encode(),
        quote(whole, safe="").lower().encode(),
    ]
    for value in written:
        assert without_credentials([(b"x-echo", b"a=" + value), OTHER], app) == [OTHER]
