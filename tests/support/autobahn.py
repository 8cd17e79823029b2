"""The Autobahn test suite, run against a server directly and through swproxy, and compared.

    python -m tests.support.autobahn COMMAND [CASES [EXCLUDED]]

The suite (`autobahntestsuite` 0.8.2) runs on Python 2.7 only, which no current distribution has, so
this is no part of the tests that always run; `test_websocket_conformance` is. Where there is a
Python 2.7, this installs the suite into DIR, and calls it:

    python2.7 -m pip install --target DIR autobahntestsuite==0.8.2
    W='import site; site.addsitedir("DIR"); from autobahntestsuite import wstest; wstest.run()'
    python -m tests.support.autobahn "python2.7 -W ignore -c '$W'"

CASES are the suite's patterns, separated by commas; categories 9, 12 and 13 take long. Exit code 0
says that every case behaved the same both ways, and none closed less cleanly through swproxy. In
some the server races with itself (whether a message is echoed before the frame behind it fails the
connection), so cases that differed are run again, ATTEMPTS times in all.
"""

import json
import logging
import shlex
import sys
import tempfile
from collections import Counter
from functools import partial
from typing import Any

import trio
from websockets.trio.server import serve

from tests.support.proxy import proxy
from tests.system.test_websocket_libraries import echo

ATTEMPTS = 4
USUAL = "1.*,2.*,3.*,4.*,5.*,6.*,7.*,10.*"


async def run(command: str, cases: str, excluded: str) -> dict[str, dict[str, Any]]:
    """Run the suite's fuzzing client; return its findings by agent and case."""
    start = partial(serve, echo, 0, host="127.0.0.1", max_size=None, ping_interval=None)
    with tempfile.TemporaryDirectory() as directory:
        async with trio.open_nursery() as nursery, proxy() as swproxy:
            server = await nursery.start(start)
            url = f"ws://127.0.0.1:{server.listeners[0].socket.getsockname()[1]}/"
            signed = swproxy.sign(url, expiry=86400).replace("http://", "ws://")
            spec = {
                "options": {"failByDrop": False},
                "outdir": directory,
                "servers": [{"agent": "direct", "url": url}, {"agent": "swproxy", "url": signed}],
                "cases": cases.split(","),
                "exclude-cases": excluded.split(",") if excluded else [],
                "exclude-agent-cases": {},
            }
            file = trio.Path(directory, "spec.json")
            await file.write_text(json.dumps(spec))
            words = [*shlex.split(command), "-m", "fuzzingclient", "-s", str(file)]
            await trio.run_process(words, capture_stdout=True)
            nursery.cancel_scope.cancel()
        index = await trio.Path(directory, "index.json").read_text()
        found: dict[str, dict[str, Any]] = json.loads(index)
        return found


def compare(direct: dict[str, Any], through: dict[str, Any]) -> dict[str, str]:
    """Return a line for each case that went another way, or ended less cleanly, through swproxy."""
    lines = {}
    for case, before in direct.items():
        after = through[case]
        worse = after["behaviorClose"] != "OK" and after["behaviorClose"] != before["behaviorClose"]
        if after["behavior"] != before["behavior"] or worse:
            lines[case] = (
                f"{case}: {before['behavior']}, close {before['behaviorClose']} directly;"
                f" {after['behavior']}, close {after['behaviorClose']} through swproxy"
            )
    return lines


def main(command: str, cases: str = USUAL, excluded: str = "") -> int:
    """Run, print what came of it, and return the exit code."""
    logging.getLogger("websockets").setLevel(logging.CRITICAL)
    for _ in range(ATTEMPTS):
        found = trio.run(run, command, cases, excluded)
        for agent, results in found.items():
            print(agent, dict(Counter(result["behavior"] for result in results.values())))  # noqa: T201
        different = compare(found["direct"], found["swproxy"])
        print("\n".join(different.values()) or "Every case went the same way.")  # noqa: T201
        if not different:
            return 0
        cases, excluded = ",".join(different), ""
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
