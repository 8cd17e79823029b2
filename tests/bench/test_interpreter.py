"""How an interpreter was built, by what sysconfig tells."""

import pytest

from bench.interpreter import read


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"CONFIG_ARGS": "'--prefix=/usr'"}, "neither PGO nor LTO"),
        ({"CONFIG_ARGS": "'--enable-optimizations'"}, "PGO (sysconfig)"),
        ({"CONFIG_ARGS": "'--enable-optimizations' '--with-lto=full'"}, "PGO and LTO"),
        ({"PY_CORE_CFLAGS": "-O3 -fprofile-use", "PY_CORE_LDFLAGS": "-flto"}, "PGO and LTO"),
        # There in every makefile, whether it is used or not.
        ({"PGO_PROF_USE_FLAG": "-fprofile-use"}, "neither PGO nor LTO"),
    ],
)
def test_the_build_of_an_interpreter(variables: dict[str, object], words: str) -> None:
    assert str(read(variables)).startswith(words)
