"""What a whole run prints: a line for each folder of tests, and at the end the failures, short.

Tests may run in several processes (pytest-xdist); then those hand the causes of a failure on in
its report, and the process that started them prints.

A failure is told by its causes: the exceptions inside the groups that nurseries make, where each
was raised, and how to run that test again. All that pytest would have printed is in a file.
"""

import time
import traceback
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

DETAILS = ".pytest_cache/failures"
CAUSE = "cause"
OUTCOMES = ["passed", "skipped", "failed"]
CAUSES = 3
FRAMES = 3
MESSAGE_LINES = 10

Status = tuple[str, str, str]


class Causes:
    """A pytest plugin of every process that runs tests: hands on why one failed."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Keep the causes of a failure."""
        report = yield
        if report.failed and call.excinfo is not None:
            causes = list(leaves(call.excinfo.value))
            lines = [line for each in causes[:CAUSES] for line in told(each, self._root)]
            if len(causes) > CAUSES:
                lines.append(f"and {len(causes) - CAUSES} more")
            report.user_properties.extend((CAUSE, line) for line in lines)
        return report


@dataclass
class Stage:
    """The tests of a folder."""

    left: int = 0
    since: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)


class Stages:
    """A pytest plugin of the process that tells of the tests; it takes the place of the dots."""

    def __init__(self, terminal: pytest.TerminalReporter, root: Path) -> None:
        self._terminal = terminal
        self._details = root / DETAILS
        self._causes: dict[str, list[str]] = {}
        self._stages: dict[str, Stage] = {}
        self._details.parent.mkdir(exist_ok=True)
        self._details.unlink(missing_ok=True)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Know how many tests a folder has."""
        self._count([item.nodeid for item in session.items])

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """Know it where others run them; each of them has found the same."""
        if not self._stages:
            self._count(ids)

    @pytest.hookimpl(wrapper=True)
    def pytest_report_teststatus(self) -> Generator[None, Status, Status]:
        """Print no letter for a test."""
        category, _, word = yield
        return category, "", word

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Take the time of a folder."""
        stage = self._stages[_folder(nodeid)]
        stage.since = stage.since or time.monotonic()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count a test, and write down all of a failure."""
        if report.when == "call" or not report.passed:
            self._stages[_folder(report.nodeid)].outcomes[report.outcome] += 1
        if report.failed:
            causes = self._causes.setdefault(report.nodeid, [])
            causes.extend(str(line) for name, line in report.user_properties if name == CAUSE)
            with self._details.open("a") as file:
                file.write(f"\n==== {report.nodeid}, {report.when}\n{report.longreprtext}\n")
                file.writelines(f"---- {title}\n{text}\n" for title, text in report.sections)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Tell of a folder whose last test this was."""
        folder = _folder(nodeid)
        stage = self._stages[folder]
        stage.left -= 1
        if not stage.left:
            outcomes = sorted(stage.outcomes.items(), key=lambda each: OUTCOMES.index(each[0]))
            counted = ", ".join(f"{count} {name}" for name, count in outcomes)
            taken = time.monotonic() - stage.since
            self._terminal.write_line(f"  {folder:<16}{counted} in {taken:.0f} s")
            self._terminal.flush()

    def pytest_terminal_summary(self) -> None:
        """Tell the failures."""
        for nodeid, causes in self._causes.items():
            self._terminal.write_line(f"FAILED {nodeid}", red=True)
            for line in causes:
                self._terminal.write_line(f"    {line}")
        if self._causes:
            self._terminal.write_line(f"Tracebacks and what was printed: {DETAILS}")
            self._terminal.write_line("To run one again:")
            for nodeid in self._causes:
                self._terminal.write_line(f"    ./tests/run '{nodeid}'")

    def _count(self, ids: Sequence[str]) -> None:
        for nodeid in ids:
            self._stages.setdefault(_folder(nodeid), Stage()).left += 1


def _folder(nodeid: str) -> str:
    return str(Path(nodeid.partition("::")[0]).parent)


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Return what is in a group of exceptions, however deep; of another exception itself."""
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from leaves(each)
    else:
        yield error


def told(error: BaseException, root: Path) -> list[str]:
    """Tell an exception in a few lines: its last places in the project, and its message."""
    places = [
        f"{Path(frame.filename).relative_to(root)}:{frame.lineno} in {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).is_relative_to(root) and "site-packages" not in frame.filename
    ]
    message = "".join(traceback.format_exception_only(error)).splitlines()
    return [*places[-FRAMES:], *message[:MESSAGE_LINES]]
