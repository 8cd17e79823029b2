"""Which allowed destinations no request can reach, and what is said about them."""

from collections.abc import Iterable, Mapping
from ipaddress import ip_address

import pytest

from swproxy.config.config import App, Config, Upstream
from swproxy.config.reach import unreachable, unreachable_patterns
from swproxy.policy.addresses import Address
from swproxy.policy.destination import Pattern

NAMES = {
    "gpu.example": ["10.0.0.7"],
    "both.example": ["192.0.2.1", "fd00::1"],
    "public.example": ["1.1.1.1"],
    "localhost": ["127.0.0.1"],
}


def resolve(names: Iterable[str]) -> Mapping[str, list[Address]]:
    assert all(name and name[0] != "." for name in names)
    return {name: [ip_address(each) for each in NAMES[name]] for name in names if name in NAMES}


def config(*networks: str, allow: Iterable[str] = ()) -> Config:
    upstream = Upstream.model_validate({"private_networks": [*networks]})
    app = App("one", ("secret",), tuple(map(Pattern.parse, allow)))
    return Config(upstream=upstream, apps={"one": app})


@pytest.mark.parametrize(
    ("host", "networks", "opening"),
    [
        ("127.0.0.1", [], '"127.0.0.1/32"'),
        ("127.0.0.1", ["127.0.0.0/8"], None),
        ("10.1.2.3", ["10.0.0.0/16"], '"10.1.2.3/32"'),
        ("169.254.169.254", [], '"169.254.169.254/32"'),
        ("::1", [], '"::1/128"'),
        ("fd00::5", ["fd00::/8"], None),
        ("1.1.1.1", [], None),
        ("2606:4700::1111", [], None),
        # This machine by definition, whatever is or is not in /etc/hosts.
        ("localhost", [], '"127.0.0.1/32", "::1/128"'),
        ("api.localhost", [], '"127.0.0.1/32", "::1/128"'),
        ("localhost", ["127.0.0.0/8"], None),
        ("localhost", ["::1/128"], None),
        ("notlocalhost", [], None),
        # What a name stands for is not known without asking.
        ("gpu.example", [], None),
    ],
)
def test_without_asking_anybody(host: str, networks: list[str], opening: str | None) -> None:
    said = unreachable(config(*networks), host)
    assert bool(said) == (opening is not None)
    if opening:
        assert said.endswith(f"add {opening} to upstream.private_networks")


@pytest.mark.parametrize(
    ("host", "networks", "opening"),
    [
        ("gpu.example", [], '"10.0.0.7/32"'),
        ("gpu.example", ["10.0.0.0/8"], None),
        ("both.example", ["192.0.2.0/24"], '"fd00::1/128"'),
        ("both.example", [], '"192.0.2.1/32", "fd00::1/128"'),
        ("public.example", [], None),
        ("unknown.example", [], None),
        ("localhost", [], '"127.0.0.1/32"'),
        ("localhost", ["::1/128"], '"127.0.0.1/32"'),
    ],
)
def test_with_names_resolved(host: str, networks: list[str], opening: str | None) -> None:
    said = unreachable(config(*networks), host, resolve)
    assert bool(said) == (opening is not None)
    if opening:
        assert said.endswith(f"add {opening} to upstream.private_networks")


def test_patterns() -> None:
    allow = [
        "https://api.example/*",
        "http://127.0.0.1:11434/*",
        "http://gpu.example:8000/v1/*",
        "http://*.localhost/*",
        "http://*.example/*",
        "*",
    ]
    found = [number for _, number, _ in unreachable_patterns(config(allow=allow))]
    assert found == [1, 3]
    found = [number for _, number, _ in unreachable_patterns(config(allow=allow), resolve)]
    assert found == [1, 2, 3]


def test_of_many_addresses_few_are_told() -> None:
    many = [ip_address(f"10.0.0.{n}") for n in range(200)]
    said = unreachable(config(), "many.example", lambda _: {"many.example": many})
    assert said.count("/32") == 4
