"""What a whole run prints: a line for each folder of tests, and at the end the failures, short.

A failure is told by its causes: the exceptions inside the groups that nurseries make, where each
was raised, and how to run that test again. All that pytest would have printed is in a file.
"""

import time
import traceback
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

DETAILS = ".pytest_cache/failures"
CAUSES = 3
FRAMES = 3
MESSAGE_LINES = 10

Status = tuple[str, str, str]


class Stages:
    """A pytest plugin; it takes the place of the dots."""

    def __init__(self, terminal: pytest.TerminalReporter, root: Path) -> None:
        self._terminal = terminal
        self._root = root
        self._details = root / DETAILS
        self._causes: dict[str, list[str]] = {}
        self._folder = ""
        self._since = 0.0
        self._outcomes: Counter[str] = Counter()
        self._details.parent.mkdir(exist_ok=True)
        self._details.unlink(missing_ok=True)

    @pytest.hookimpl(wrapper=True)
    def pytest_report_teststatus(self) -> Generator[None, Status, Status]:
        """Print no letter for a test."""
        category, _, word = yield
        return category, "", word

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Begin the line of a folder."""
        folder = str(Path(nodeid.partition("::")[0]).parent)
        if folder != self._folder:
            self._end_line()
            self._folder, self._since = folder, time.monotonic()
            self._terminal.write(f"  {folder:<16}", flush=True)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count a test, and write down all of a failure."""
        if report.when == "call" or not report.passed:
            self._outcomes[report.outcome] += 1
        if report.failed:
            with self._details.open("a") as file:
                file.write(f"\n==== {report.nodeid}, {report.when}\n{report.longreprtext}\n")
                file.writelines(f"---- {title}\n{text}\n" for title, text in report.sections)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Keep the causes of a failure."""
        report = yield
        if report.failed and call.excinfo is not None:
            causes = list(leaves(call.excinfo.value))
            lines = [line for each in causes[:CAUSES] for line in told(each, self._root)]
            if len(causes) > CAUSES:
                lines.append(f"and {len(causes) - CAUSES} more")
            self._causes.setdefault(item.nodeid, []).extend(lines)
        return report

    def pytest_sessionfinish(self) -> None:
        """End the last line."""
        self._end_line()

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

    def _end_line(self) -> None:
        if self._folder:
            counted = ", ".join(f"{count} {name}" for name, count in self._outcomes.items())
            taken = time.monotonic() - self._since
            self._terminal.write_line(f" {counted} in {taken:.0f} s")
        self._folder = ""
        self._outcomes.clear()


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
