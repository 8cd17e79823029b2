"""A canary run: secrets that must be nowhere, looked for everywhere a daemon leaves traces.

Every test that runs the proxy ends with the same search over its wires (see `wire.search`), and
`conftest` searches what all tests print. Here a daemon of its own goes through what can go wrong,
and its log, metrics, standard error and process list are searched, all after the fact.
"""

import signal
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from swproxy.config.config import App, Config
from swproxy.policy.destination import Pattern
from tests.support.daemon import Daemon, daemon
from tests.support.hostile_requests import FRAMING, SYNTAX, TARGET
from tests.support.proxy import proxy
from tests.support.upstream import take_and_answer, upstream
from tests.support.wire import API_KEY, APP_ID, SECRET, End, reveals


async def send_faults(end: End) -> None:
    """Answer by what is asked for: well, with the secret in fields, wrongly, or not at all."""
    head, _ = await end.read_request()
    ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"
    answers = {
        b"GET /echo": ok + b"X-Echo: Bearer " + API_KEY.encode() + b"\r\n\r\nok",
        b"GET /garbage": b"Bearer " + API_KEY.encode() + b"\r\n\r\n",
        b"GET /status": b"HTTP/1.1 200 " + API_KEY.encode() + b"\r\nContent-Length: 2\r\n\r\nok",
        b"GET /chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        + API_KEY.encode()
        + b"\r\n",
        b"GET /header": ok + API_KEY.encode() + b"\x00: x\r\n\r\n",
        b"GET /cut": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok",
        b"GET /closed": b"",
    }
    for path, answer in answers.items():
        if head.startswith(path):
            await end.send(answer)
            return
    await end.send(ok + b"\r\nok")


PATHS = ["/", "/echo", "/garbage", "/status", "/chunk", "/header", "/cut", "/closed"]


async def provoke(served: Daemon, url: str, port: int) -> bytes:
    """Ask for everything that can go wrong; return all that clients received."""
    requests = [served.request(url + path) for path in PATHS]
    good = served.request(url + "/")
    target = good.split(b" ")[1]
    requests += [case.replace(TARGET, target) for case in (FRAMING | SYNTAX).values()]
    requests += [
        good.replace(b"X-Sw-Signature=", b"X-Sw-Signature=0"),
        good.replace(b"X-Sw-Date=20", b"X-Sw-Date=19"),
        good.replace(b"X-Sw-Body=false", b"X-Sw-Body=true"),
        good.replace(b"\r\n\r\n", b"\r\nAuthorization: Bearer " + b"x" * 40 + b"\r\n\r\n"),
        served.request(f"http://127.0.0.1:{port}/"),
        served.request(f"https://127.0.0.1:{port}/"),
        served.request("http://10.0.0.1/"),
        served.request("http://missing.invalid/"),
        served.request(url + "/", "POST", body=b"hello", body_signed=True)[:-1] + b"!",
    ]
    received = b""
    for request in requests:
        client = await served.connect()
        await client.send(request)
        with suppress(EOFError, trio.BrokenResourceError):
            await client.read_response()
        received += bytes(client.received)
        await client.aclose()
    return received


@pytest.mark.parametrize("log_format", ["json", "logfmt", "console"])
async def test_a_daemon_that_goes_through_everything_leaves_no_secret_anywhere(
    tmp_path: Path, log_format: str
) -> None:
    async with upstream(send_faults) as server:
        async with daemon(tmp_path, log_format=log_format) as served:
            received = await provoke(served, server.url, 9)
            metrics = await served.fetch("/metrics")
            for path in ("/healthz", "/readyz", "/missing"):
                metrics += await served.fetch(path)
            process = Path(f"/proc/{served.process.pid}")
            # The kernel's view of it: anybody on the machine may read the first two.
            listed = (process / "cmdline").read_bytes() + (process / "comm").read_bytes()
            listed += (process / "environ").read_bytes()
            served.process.send_signal(signal.SIGHUP)
            broken = served.directory / "swproxy.toml"
            broken.write_text(broken.read_text() + "\n[nonsense]\n")
            served.process.send_signal(signal.SIGHUP)
            client = await served.connect()
            await client.send(served.request(server.url + "/"))
            assert (await client.read_response()).body == b"ok"
        signatures = sorted(served.signatures)
        assert len(signatures) > 10
        for name, trace in {
            "received": received,
            "metrics": metrics,
            "process list": listed,
            "output": served.output,
        }.items():
            assert reveals(trace, signatures=signatures) == [], name
        assert b"nonsense" in served.output
        for wire in server.connections:
            assert reveals(bytes(wire.received), signatures=signatures) in ([], [API_KEY])


def test_a_configuration_s_repr_has_no_secret() -> None:
    app = App(
        id=APP_ID,
        secrets=(SECRET,),
        allow=(Pattern.parse("*"),),
        headers=((b"Authorization", API_KEY.encode()),),
    )
    config = Config(apps={APP_ID: app})
    for shown in (repr(config), str(config), repr(app), f"{config.apps}", repr(replace(app))):
        assert reveals(shown.encode()) == []


async def test_a_fault_of_ours_is_told_without_a_word_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever an exception's text holds, the client gets none of it, and others are served."""

    def fail(*args: object, **kwargs: object) -> object:
        raise RuntimeError(f"{SECRET} {API_KEY}")

    async with upstream(take_and_answer) as server, proxy() as swproxy:
        monkeypatch.setattr("swproxy.proxy.heads.upstream_headers", fail)
        answer = await swproxy.ask(server.url)
        assert answer.status == 500
        assert b'"internal"' in answer.body
        monkeypatch.undo()
        assert (await swproxy.ask(server.url)).body == b"ok"
        (fault,) = swproxy.recorder.faults
        assert isinstance(fault, RuntimeError)
        swproxy.recorder.faults.clear()


async def test_a_fault_outside_a_request_ends_one_connection_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*args: object, **kwargs: object) -> object:
        raise RuntimeError(SECRET)

    async with upstream(take_and_answer) as server, proxy() as swproxy:
        bystander = await swproxy.connect()
        await bystander.send(swproxy.request(server.url))
        assert (await bystander.read_response()).body == b"ok"
        with monkeypatch.context() as patch:
            patch.setattr("swproxy.proxy.connection.take_head", fail)
            victim = await swproxy.connect()
            await victim.send(swproxy.request(server.url))
            assert await victim.wait_closed() == "reset"
        await bystander.send(swproxy.request(server.url))
        assert (await bystander.read_response()).body == b"ok"
        assert len(swproxy.recorder.faults) == 1
        swproxy.recorder.faults.clear()
