"""docs/signing.md: its commands do what it says, and its scheme is the one that is spoken."""

import hmac
from hashlib import sha256
from pathlib import Path

from swproxy.sw1.canonical import ALGORITHM, PARAMETERS, SIGNATURE, sign_digest, signing_key
from swproxy.sw1.claims import parse_target
from tests.support.pages import DOCS, block
from tests.support.shell import shell


def test_explain_accepts_what_sign_printed(tmp_path: Path) -> None:
    assert shell(tmp_path, "swproxy init").returncode == 0
    done = shell(tmp_path, block("explain"), OPENAI_API_KEY="sk")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "X-Sw-Algorithm=SW1-HMAC-SHA256&X-Sw-Body=false" in done.stdout
    assert done.stdout.splitlines()[-1] == "Accepted."


def test_everything_can_be_signed() -> None:
    names: dict[str, str] = {}
    exec(block("signing.py"), names)
    claims = parse_target(names["url"].removeprefix("https://edge.example.com").encode())
    assert claims.proxy_url == "https://api.openai.com/v1/responses"
    assert claims.signed_headers == ("content-length", "content-type")
    assert claims.body_signed


def test_the_url_has_the_parameters_of_the_scheme() -> None:
    lines = block("url").splitlines()[1:]
    names = [line.lstrip("?&").partition("=")[0] for line in lines]
    assert sorted(names) == sorted([*PARAMETERS, SIGNATURE])
    assert f"?X-Sw-Algorithm={ALGORITHM}" in lines


def test_the_order_of_the_parts_is_that_of_the_vector() -> None:
    """`canonical` names the lines of `rich`, one by one."""
    parts = block("canonical").splitlines()
    lines = block("rich").replace("\n&", "&").splitlines()
    lines[3:5] = ["\n".join(lines[3:5])]
    told = dict(zip(parts, lines, strict=True))
    assert told["METHOD"] == "POST"
    assert told["canonical query"].split("&")[0] == f"{PARAMETERS[0]}={ALGORITHM}"
    assert told["header lines"] == "content-length:11\nx-foo:foo"
    assert told["header names"] == "content-length;x-foo"
    assert told["body"] == '{"a": "é"}'


def test_the_texts_shown_have_the_hashes_and_signatures_shown() -> None:
    page = (DOCS / "signing.md").read_text()
    for name in ("plain", "rich"):
        text = block(name).replace("\n&", "&").removesuffix("\n")
        digest = sha256(text.encode()).hexdigest()
        signature = sign_digest(signing_key("secret", "19700101"), "19700101T000000Z", digest)
        assert f"`{digest}`, the signature\n`{signature.hex()}`" in page


def test_the_string_to_sign_is_that_of_the_code() -> None:
    date = "19700101T000000Z"
    told = block("string").removesuffix("\n")
    for part, value in (
        ("X-Sw-Date", date),
        ("YYYYMMDD", date[:8]),
        ("hex(sha256(canonical request))", "00" * 32),
    ):
        told = told.replace(part, value)
    key = signing_key("secret", date[:8])
    assert sign_digest(key, date, "00" * 32) == hmac.digest(key, told.encode(), "sha256")
