"""Programs that tests drive but pip cannot install."""

import os
import shutil

import pytest


def require(binary: str, package: str) -> str:
    """Return the path of `binary`; without it skip the test, saying what to install.

    Under CI the test fails instead: there, a test that did not run must not look like a pass.
    """
    path = shutil.which(binary)
    if path is not None:
        return path
    message = f"{binary} is missing: apt-get install {package}"
    if os.environ.get("CI"):
        pytest.fail(message, pytrace=False)
    pytest.skip(message)
