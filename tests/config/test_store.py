"""Applications on disk: what may be written, and what is refused before anything is."""

import threading
from pathlib import Path
from typing import Any

import pytest

from swproxy.config import loader, store
from swproxy.config.applications import new_table, retired, rotated
from swproxy.config.faults import ConfigError
from tests.support.config import load

TABLE = new_table("s" * 43, ["https://api.example/*"], [("Authorization", "Bearer ${KEY}")])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "swproxy.toml"
    store.initialise(path, "first", TABLE)
    return path


def test_initialise_writes_what_can_be_loaded(path: Path) -> None:
    config = load(path, {"KEY": "key"})
    assert config.apps["first"].headers == ((b"Authorization", b"Bearer key"),)
    assert not loader.inspect(path, {"KEY": "key"}).warnings


def test_initialise_never_overwrites(tmp_path: Path) -> None:
    path = tmp_path / "swproxy.toml"
    (tmp_path / "apps").mkdir()
    (tmp_path / "apps" / "a.toml").write_text("mine")
    with pytest.raises(ConfigError, match=r"a.toml: is there already; nothing was written"):
        store.initialise(path, "a", TABLE)
    assert not path.exists()
    store.initialise(path, "b", TABLE)
    with pytest.raises(ConfigError, match=r"swproxy.toml: is there already"):
        store.initialise(path, "c", TABLE)
    assert sorted(each.name for each in (tmp_path / "apps").iterdir()) == ["a.toml", "b.toml"]


def test_add_and_find(path: Path) -> None:
    file = store.add(path, "second", TABLE)
    assert file == path.parent / "apps" / "second.toml"
    assert store.find(path, "second").table == TABLE
    with pytest.raises(ConfigError, match="has an application second already"):
        store.add(path, "second", TABLE)


@pytest.mark.parametrize(
    ("app_id", "table", "reason"),
    [
        ("../x", TABLE, "slash"),
        (".x", TABLE, "beginning"),
        ("x", TABLE | {"allow": []}, "allow: needs at least 1"),
        ("x", TABLE | {"allow": ["nowhere"]}, r"allow\[0\]: begins with no scheme"),
        ("x", TABLE | {"headers": {"Host": "x"}}, "headers.Host: is set by swproxy itself"),
        ("x", TABLE | {"headers": {"A": "${-}"}}, "headers.A: has a"),
    ],
)
def test_add_refuses_what_could_not_be_loaded(
    path: Path, app_id: str, table: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason):
        store.add(path, app_id, table)
    assert [source.id for source in loader.applications(path)] == ["first"]


def test_add_needs_a_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        store.add(tmp_path / "swproxy.toml", "a", TABLE)
    assert list(tmp_path.iterdir()) == []


def test_find_suggests(path: Path) -> None:
    with pytest.raises(ConfigError, match='no application frist; did you mean "first"'):
        store.find(path, "frist")
    with pytest.raises(ConfigError, match=r"no application zzz$"):
        store.find(path, "zzz")


def test_change(path: Path) -> None:
    file = store.change(path, "first", lambda table: rotated(table, "n" * 43))
    assert store.find(path, "first").table["secrets"] == ["s" * 43, "n" * 43]
    with pytest.raises(ConfigError, match=r"first.toml: has two secrets already"):
        store.change(path, "first", lambda table: rotated(table, "m"))
    store.change(path, "first", retired)
    assert store.find(path, "first").table["secrets"] == ["n" * 43]
    assert file.read_text().startswith("# The application first")


def test_change_writes_nothing_that_could_not_be_loaded(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"secrets\[0\]: is empty"):
        store.change(path, "first", lambda table: table | {"secrets": [""]})
    assert store.find(path, "first").table == TABLE


def test_remove(path: Path) -> None:
    assert not store.remove(path, "first").exists()
    with pytest.raises(ConfigError, match="no application first"):
        store.remove(path, "first")


def test_applications_of_the_main_file_are_not_touched(path: Path) -> None:
    path.write_text("[apps.main]\nsecrets = ['x']\nallow = ['*']\n")
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=r"swproxy\.toml: .*only you may edit"):
        store.change(path, "main", retired)
    with pytest.raises(ConfigError, match=r"swproxy\.toml: .*only you may edit"):
        store.remove(path, "main")
    with pytest.raises(ConfigError, match=r"swproxy\.toml: has an application main already"):
        store.add(path, "main", TABLE)
    assert path.read_bytes() == before


def test_changes_made_at_once_all_last(path: Path) -> None:
    def rename(number: int) -> None:
        def edit(table: dict[str, Any]) -> dict[str, Any]:
            return table | {"allow": [*table["allow"], f"https://{number}.example/"]}

        store.change(path, "first", edit)

    threads = [threading.Thread(target=rename, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.find(path, "first").table["allow"]) == 9
