"""docs/security.md says what the code does with headers, and what one client may take."""

import re
from collections.abc import Sequence

from swproxy.daemon import service
from swproxy.net.pump import BUFFER_SIZE
from swproxy.policy.headers import downstream_headers, upstream_headers
from swproxy.policy.page_headers import DEFAULT_FROM_PAGE, PageHeaders
from swproxy.proxy.body import GRACE_SECONDS, MIN_RATE
from swproxy.proxy.spool import MEMORY_BYTES
from tests.support.pages import DOCS

SECURITY = DOCS / "security.md"


def test_what_one_client_may_take_is_what_the_code_lets_it() -> None:
    text = SECURITY.read_text()
    section = " ".join(text[text.index("## What one client may take") :].split())
    for stated in (
        f"one buffer of {BUFFER_SIZE // 1024} KiB",
        f"at {MIN_RATE // 1024} KiB a second after the first {GRACE_SECONDS:.0f} seconds",
        f"{MEMORY_BYTES // 1024} KiB of it in memory",
        f"at most {service._SPOOLED_AT_ONCE} times `limits.signed_body_bytes`",
    ):
        assert stated in section, stated


def listed(start: str) -> list[str]:
    """The names in code type of the page's paragraph that begins so."""
    paragraph = next(p for p in SECURITY.read_text().split("\n\n") if p.startswith(start))
    return re.findall(r"`([A-Z][A-Za-z0-9-]+)`", paragraph)


def test_headers_that_end_here_do() -> None:
    names = listed("**On the way up, dropped even by")
    assert len(names) > 8
    for name in names:
        field = (name.lower().encode() + b"x" * name.endswith("-"), b"value")
        assert not passes(field, "*")
        assert passes(field, field[0].decode())
        assert passes(field, signed=[field[0].decode()])


def passes(field: tuple[bytes, bytes], *let: str, signed: Sequence[str] = ()) -> bool:
    page = PageHeaders(let)
    return field in upstream_headers([field], signed, (), b"api.example.com", from_page=page)


def test_headers_that_are_orders_do_not_pass_by_default() -> None:
    names = listed("**On the way up,**")
    assert len(names) > 3
    for name in names:
        field = (name.lower().encode(), b"value")
        assert not passes(field, *DEFAULT_FROM_PAGE)


def test_answers_headers_that_end_here_do() -> None:
    names = listed("**On the way down, dropped:**")
    assert len(names) > 8
    for name in names:
        field = (name.lower().encode(), b"value")
        assert field not in downstream_headers([field])


def test_answers_headers_that_are_added_are() -> None:
    added = {name.decode(): value.decode() for name, value in downstream_headers([])}
    paragraph = next(
        p for p in SECURITY.read_text().split("\n\n") if p.startswith("**Added to every answer:**")
    )
    stated = dict(re.findall(r"`([A-Za-z-]+): ([^`]+)`", paragraph))
    assert stated == added
