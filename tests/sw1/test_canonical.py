"""The canonical form, against the vectors written down in docs/signing.md."""

import re
from hashlib import sha256

from hypothesis import given
from hypothesis import strategies as st

from swproxy.sw1.canonical import (
    PARAMETERS,
    canonical_headers,
    canonical_query,
    request_head,
    sign_digest,
    signing_key,
)
from tests.support.pages import DOCS
from tests.support.sw1_cases import Request, target_of

QUERY = (
    "X-Sw-Algorithm=SW1-HMAC-SHA256&X-Sw-Body={body}&X-Sw-Credential=foo%2F19700101"
    "&X-Sw-Date=19700101T000000Z&X-Sw-Expires=600&X-Sw-Proxy=https%3A%2F%2Fgithub.com%2F"
    "&X-Sw-SignedHeaders={names}"
)


def documented() -> list[str]:
    """Return every SHA-256 or signature in the scheme's documentation, in order."""
    return re.findall("[0-9a-f]{64}", (DOCS / "signing.md").read_text())


def signature(canonical_request: str) -> tuple[str, str]:
    digest = sha256(canonical_request.encode()).hexdigest()
    return digest, sign_digest(signing_key("secret", "19700101"), "19700101T000000Z", digest).hex()


def test_the_documented_vectors_are_right() -> None:
    plain = "POST\n/\n" + QUERY.format(body="false", names="") + "\n\n\n\n"
    rich = (
        "POST\n/\n"
        + QUERY.format(body="true", names="x-foo%3Bcontent-length")
        + "\ncontent-length:11\nx-foo:foo\n\ncontent-length;x-foo\n"
        + '{"a": "é"}'
    )
    assert documented() == [*signature(plain), *signature(rich)]


def test_parameters_are_in_sorted_order_and_stay_so() -> None:
    assert list(PARAMETERS) == sorted(PARAMETERS)
    values = ["~", "", "!", "zz", "0", "~~", "-"]
    pairs = canonical_query(values).split("&")
    assert pairs == sorted(pairs)


def test_no_header_leaves_all_line_feeds() -> None:
    assert request_head(b"GET", b"/\nq", canonical_headers([])) == b"GET\n/\nq\n\n\n\n"


@given(st.dictionaries(st.sampled_from([b"a", b"a-b", b"a!", b"b"]), st.binary(max_size=3)))
def test_header_lines_and_names_are_sorted(headers: dict[bytes, bytes]) -> None:
    values = {name: value.replace(b"\n", b"") for name, value in headers.items()}
    text = canonical_headers(values.items())
    lines, _, names = text.partition(b"\n\n")
    assert lines.split(b"\n") == (sorted(b"%b:%b" % pair for pair in values.items()) or [b""])
    assert names.split(b";") == (sorted(values) or [b""])


def test_a_whole_url_agrees_with_its_parts() -> None:
    target = target_of(Request().sign()).decode()
    pairs = sorted(target.partition("?")[2].split("&"))[:-2]
    pairs.append("X-Sw-SignedHeaders=")
    digest = sha256(f"GET\n/\n{'&'.join(pairs)}\n\n\n\n".encode()).hexdigest()
    key = signing_key("my-secret", "20261122")
    assert target.endswith(sign_digest(key, "20261122T120000Z", digest).hex())
