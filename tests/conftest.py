"""For the whole run: options, and a search for secrets in all that tests have printed."""

import resource
from collections.abc import Generator
from pathlib import Path

import hypothesis
import pytest

from tests.support.stages import Causes, Stages, leaves
from tests.support.wire import authority, reveals

_found: list[str] = []


@pytest.fixture
def tls_files(tmp_path: Path) -> dict[str, Path]:
    """Return the settings of a TLS listener."""
    certificate = authority().issue_cert("localhost")
    paths = {"tls_certificate": tmp_path / "chain.pem", "tls_key": tmp_path / "key.pem"}
    paths["tls_key"].write_bytes(certificate.private_key_pem.bytes())
    paths["tls_certificate"].write_bytes(b"".join(c.bytes() for c in certificate.cert_chain_pems))
    return paths


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what takes longer than a suite should."""
    group = parser.getgroup("swproxy")
    group.addoption(
        "--soak",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help="how long the soak test lasts; 600 before a release (default: 10)",
    )
    group.addoption(
        "--stages",
        action="store_true",
        help="print a line for each folder, and the failures briefly (what tests/run does)",
    )
    group.addoption(
        "--thorough",
        action="store_true",
        help="run what takes long or much: ten thousand idle connections, attacks at full size",
    )


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Have time, and all descriptors that may be had: some tests open a thousand connections."""
    # A busy machine is no failure.
    too_slow = [hypothesis.HealthCheck.too_slow]
    hypothesis.settings.register_profile(
        "any machine", deadline=None, suppress_health_check=too_slow
    )
    hypothesis.settings.load_profile("any machine")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if config.getoption("stages"):
        config.pluginmanager.register(Causes(config.rootpath))
        if not hasattr(config, "workerinput"):  # which a process of pytest-xdist's has
            terminal = config.pluginmanager.get_plugin("terminalreporter")
            assert terminal is not None
            config.pluginmanager.register(Stages(terminal, config.rootpath))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    call: pytest.CallInfo[None],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Say why a test was skipped, which pytest-trio leaves out when it takes skips from groups."""
    if call.excinfo is not None and isinstance(call.excinfo.value, pytest.skip.Exception):
        group = call.excinfo.value.__context__
        if isinstance(group, BaseExceptionGroup):
            [skipped] = leaves(group)
            call.excinfo = pytest.ExceptionInfo.from_exception(skipped)
    return (yield)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Search what a test and the proxy in it wrote to its streams and to logging."""
    for title, text in report.sections:
        if reveals(text.encode()):
            _found.append(f"{report.nodeid}: {title}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run in which a secret was printed, tracebacks and warnings of the proxy included."""
    if _found:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say where."""
    for place in _found:
        terminalreporter.write_line(f"SECRET PRINTED: {place}", red=True)
