"""What is missing: skipped at home, a failure under CI."""

import resource

import pytest

from tests.support.parts import require, require_descriptors


def test_a_program_that_is_there_is_found() -> None:
    assert require("sh", "dash").endswith("/sh")


def test_a_missing_program_skips_and_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="apt-get install some-package"):
        require("no-such-program", "some-package")


def test_under_ci_a_missing_program_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="apt-get install some-package"):
        require("no-such-program", "some-package")


def test_too_few_descriptors_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    require_descriptors(hard)
    with pytest.raises(pytest.skip.Exception, match=f"needs {hard + 1} descriptors.*is {hard}"):
        require_descriptors(hard + 1)
