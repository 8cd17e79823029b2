"""What tests need of the machine and pip cannot install: programs, and descriptors."""

import os
import resource
import shutil
from typing import NoReturn

import pytest


def require(binary: str, package: str) -> str:
    """Return the path of `binary`; without it skip the test, saying what to install.

    Under CI the test fails instead: there, a test that did not run must not look like a pass.
    """
    path = shutil.which(binary)
    if path is None:
        give_up(f"{binary} is missing: apt-get install {package}")
    return path


def require_descriptors(count: int) -> None:
    """Skip the test, as `require` does, where a process may not have so many descriptors."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < count:
        give_up(f"needs {count} descriptors, and the hard limit (ulimit -Hn) is {hard}")


def give_up(reason: str) -> NoReturn:
    """Skip the test, saying why; under CI it fails."""
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
