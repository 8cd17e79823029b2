"""Lines that leave the process without anybody waiting for them."""

import os
import threading

import pytest

from swproxy.daemon.lines import LineWriter
from tests.support.wire import PATIENCE


def dropped_line(count: int) -> str:
    return f"dropped {count}"


class Pipe:
    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()

    def read_to_end(self) -> bytes:
        os.close(self.writing)
        data = b""
        while more := os.read(self.reading, 65536):
            data += more
        os.close(self.reading)
        return data


def test_lines_come_out_whole_and_in_order() -> None:
    pipe = Pipe()
    writer = LineWriter(pipe.writing, dropped_line=dropped_line)
    lines = [f"line {number} é" for number in range(100)]
    for line in lines:
        writer.write(line)
    writer.close(PATIENCE)
    assert pipe.read_to_end().decode().splitlines() == lines


def test_a_full_pipe_keeps_nobody_waiting_and_is_told_of_what_it_missed() -> None:
    pipe = Pipe()
    told: list[int] = []
    writer = LineWriter(
        pipe.writing, dropped_line=dropped_line, on_drop=told.append, queue_bytes=10_000
    )
    for _ in range(3000):
        writer.write("x" * 99)  # 300 KB, where a pipe and the queue hold 75
    dropped = sum(told)
    assert dropped > 0
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(pipe_reader(pipe.reading)))
    reader.start()
    writer.close(PATIENCE)
    os.close(pipe.writing)
    reader.join(PATIENCE)
    os.close(pipe.reading)
    lines = found[0].decode().splitlines()
    assert lines.count("x" * 99) == 3000 - dropped
    counts = [int(line.split()[1]) for line in lines if line.startswith("dropped ")]
    assert sum(counts) == dropped


def pipe_reader(descriptor: int) -> bytes:
    data = b""
    while more := os.read(descriptor, 65536):
        data += more
    return data


def test_a_reader_that_has_gone_is_no_failure() -> None:
    pipe = Pipe()
    os.close(pipe.reading)
    writer = LineWriter(pipe.writing, dropped_line=dropped_line)
    writer.write("nobody reads this")
    writer.close(PATIENCE)
    os.close(pipe.writing)


@pytest.mark.parametrize("blocking", [True, False])
def test_a_descriptor_that_somebody_made_non_blocking_serves_too(blocking: bool) -> None:
    pipe = Pipe()
    os.set_blocking(pipe.writing, blocking)
    writer = LineWriter(pipe.writing, dropped_line=dropped_line)
    found: list[bytes] = []
    for _ in range(2000):
        writer.write("y" * 99)
    reader = threading.Thread(target=lambda: found.append(pipe_reader(pipe.reading)))
    reader.start()
    writer.close(PATIENCE)
    os.close(pipe.writing)
    reader.join(PATIENCE)
    os.close(pipe.reading)
    assert found[0] == (b"y" * 99 + b"\n") * 2000


def test_closing_does_not_wait_for_a_reader_that_never_reads() -> None:
    pipe = Pipe()
    writer = LineWriter(pipe.writing, dropped_line=dropped_line)
    for _ in range(1000):
        writer.write("z" * 999)
    writer.close(0.05)
    os.close(pipe.reading)  # lets the thread go
    writer.close(PATIENCE)
    os.close(pipe.writing)
