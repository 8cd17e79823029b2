"""What a log line says, in both forms, and what it never says."""

import json
import os
import tempfile
from collections.abc import Iterator
from typing import IO, Any

import pytest

from swproxy.config.config import Server
from swproxy.daemon.lines import ATOMIC_BYTES
from swproxy.daemon.log import Log, under_journal
from swproxy.proxy.record import Record
from tests.support.wire import PATIENCE


@pytest.fixture
def file() -> Iterator[IO[bytes]]:
    with tempfile.TemporaryFile() as opened:
        yield opened


def lines(log: Log, file: IO[bytes]) -> list[str]:
    log.writer.close(PATIENCE)
    file.seek(0)
    return file.read().decode().splitlines()


def record(**fields: Any) -> Record:
    known: dict[str, Any] = {
        "request_id": "0123456789abcdef",
        "client": "192.0.2.7",
        "method": "POST",
        "started": 10.0,
        "app": 'a "quoted" \\ é',
        "origin": "https://api.openai.com",
        "path": "/v1/chat/completions",
        "status": 200,
        "outcome": "complete",
        "bytes_up": 12,
        "bytes_down": 3456,
        "first_byte": 10.25,
        "ended": 13.5,
    }
    return Record(**known | fields)


def test_a_request_is_one_json_object(file: IO[bytes]) -> None:
    log = Log(Server(log_format="json"), descriptor=file.fileno())
    log.ended(record())
    (line,) = lines(log, file)
    fields = json.loads(line)
    assert fields.pop("time").endswith("Z")
    assert fields == {
        "level": "info",
        "event": "request",
        "request_id": "0123456789abcdef",
        "client": "192.0.2.7",
        "app": 'a "quoted" \\ é',
        "method": "POST",
        "origin": "https://api.openai.com",
        "path": "/v1/chat/completions",
        "status": 200,
        "outcome": "complete",
        "bytes_up": 12,
        "bytes_down": 3456,
        "time_to_first_byte": 0.25,
        "duration": 3.5,
    }


def test_a_failure_says_why(file: IO[bytes]) -> None:
    log = Log(Server(log_format="json"), descriptor=file.fileno())
    why = "The upstream broke off its answer."
    log.ended(record(outcome="upstream-failed", code="upstream-closed", detail=why))
    log.ended(record(app="", outcome="refused", code="url-expired", detail="no", first_byte=None))
    failed, refused = (json.loads(line) for line in lines(log, file))
    assert (failed["code"], failed["detail"]) == ("upstream-closed", why)
    assert (refused["code"], refused["time_to_first_byte"]) == ("url-expired", None)
    assert "detail" not in refused


def test_no_line_is_longer_than_what_is_written_at_once(file: IO[bytes]) -> None:
    log = Log(Server(log_format="json"), descriptor=file.fileno())
    log.ended(record(path="/x" * 9000, app="é" * 64, origin="https://" + "x" * 253))
    (line,) = lines(log, file)
    assert json.loads(line)["path"].endswith("...")
    assert len(line) < ATOMIC_BYTES


def test_a_person_gets_a_line_to_read(file: IO[bytes]) -> None:
    log = Log(Server(log_format="console"), descriptor=file.fileno())
    log.ended(record(app="chat"))
    log.event("warning", "restart-needed", key=["a", "b"], why="it is so")
    request, event = lines(log, file)
    assert request.partition(" ")[2] == (
        "200 POST https://api.openai.com/v1/chat/completions app=chat up=12 down=3456"
        " first=0.250s took=3.500s client=192.0.2.7"
    )
    assert event.partition(" ")[2] == 'WARNING restart-needed key=a,b why="it is so"'


def test_a_person_can_tell_where_an_id_ends(file: IO[bytes]) -> None:
    log = Log(Server(log_format="console"), descriptor=file.fileno())
    log.ended(record(app="my app", tokens_in=1, tokens_out=2, model="a model\nand a line"))
    (line,) = lines(log, file)
    assert ' app="my app" ' in line
    assert ' model="a model\\nand a line" ' in line


def test_logfmt_says_the_same_as_json_in_words(file: IO[bytes]) -> None:
    log = Log(Server(log_format="logfmt"), descriptor=file.fileno())
    log.ended(record(app="chat", path='/a b="c"'))
    log.ended(record(app="", origin="", path="", client="", outcome="refused", code="expired"))
    log.event("warning", "restart-needed", key=["a", "b"], why="it is so")
    log.ended(record(app="x", outcome="upstream-failed", code="late", detail="Too slow.\n"))
    whole, refused, event, failed = (line.partition(" ") for line in lines(log, file))
    assert whole[0].startswith("time=2")
    assert whole[2] == (
        "level=info event=request app=chat method=POST origin=https://api.openai.com"
        r' path="/a b=\"c\""'
        " status=200 outcome=complete bytes_up=12 bytes_down=3456 time_to_first_byte=0.250000"
        " duration=3.500000 client=192.0.2.7 request_id=0123456789abcdef"
    )
    assert refused[2].startswith(
        "level=info event=request method=POST status=200 outcome=refused code=expired bytes_up="
    )
    assert event[2] == 'level=warning event=restart-needed key=a,b why="it is so"'
    assert r' code=late detail="Too slow.\n" ' in failed[2]


@pytest.mark.parametrize("log_format", ["json", "logfmt", "console"])
def test_what_only_the_operator_may_know_is_logged(file: IO[bytes], log_format: str) -> None:
    log = Log(Server.model_validate({"log_format": log_format}), descriptor=file.fileno())
    log.ended(record(outcome="refused", code="c", detail="public", for_operator="10.0.0.1"))
    (line,) = lines(log, file)
    assert "10.0.0.1" in line
    assert "public" not in line


def test_requests_may_be_left_out(file: IO[bytes]) -> None:
    log = Log(Server(access_log=False, log_format="json"), descriptor=file.fileno())
    log.ended(record())
    log.event("info", "serving")
    log.configure(Server(access_log=True, log_format="json"))
    log.ended(record())
    assert [json.loads(line)["event"] for line in lines(log, file)] == ["serving", "request"]


def test_a_fault_is_told_by_its_places_not_its_words(file: IO[bytes]) -> None:
    log = Log(Server(log_format="json"), descriptor=file.fileno(), name="1")

    def leak() -> None:
        raise ValueError("canary-in-a-message")

    try:
        try:
            leak()
        except ValueError as error:
            raise ExceptionGroup("canary-in-a-group", [error]) from error
    except ExceptionGroup as group:
        log.crashed(group)
    (line,) = lines(log, file)
    fields = json.loads(line)
    assert (fields["level"], fields["event"], fields["worker"]) == ("error", "fault", "1")
    assert fields["type"] == "ExceptionGroup"
    assert any(place.endswith(" leak") for place in fields["at"])
    assert "canary" not in line


def test_the_journal_gets_priorities(file: IO[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    status = os.fstat(file.fileno())
    stream = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
    assert under_journal(file.fileno(), stream)
    assert not under_journal(file.fileno(), {})
    assert not under_journal(-1, stream)
    monkeypatch.setenv("JOURNAL_STREAM", stream["JOURNAL_STREAM"])
    log = Log(Server(log_format="json"), descriptor=file.fileno())
    log.ended(record())
    log.event("warning", "careful")
    log.event("error", "broken")
    assert [line[:4] for line in lines(log, file)] == ["<6>{", "<4>{", "<3>{"]


def test_in_the_journal_lines_can_be_read_as_they_are(
    file: IO[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    status = os.fstat(file.fileno())
    monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
    log = Log(Server(), descriptor=file.fileno())
    log.ended(record(app="chat"))
    log.event("warning", "careful", at="once")
    request, event = lines(log, file)
    # The journal has time and level.
    assert request.startswith("<6>event=request app=chat method=POST origin=https://api.openai.com")
    assert event == "<4>event=careful at=once"


def test_elsewhere_collectors_read(file: IO[bytes]) -> None:
    log = Log(Server(), descriptor=file.fileno())
    log.event("info", "serving")
    log.say("nothing for a file")
    (line,) = lines(log, file)
    assert json.loads(line)["event"] == "serving"
