"""A conforming server answers a client through swproxy as it answers it directly.

The conversations follow the categories of the Autobahn test suite (whose numbers they carry), the
ill-formed ones above all: a relay that judged, joined, cut or delayed frames in its own way would
change an answer. Each is spoken once to the server itself and once through swproxy, and all that
came back is compared byte for byte. `python -m tests.support.autobahn` does the same with that
suite itself, where it can be had.
"""

from typing import Any

import pytest
import trio
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import CloseConnection, Message, Ping
from wsproto.utilities import RemoteProtocolError

from tests.support.proxy import proxy
from tests.support.sockets import LINES, ask, frame, switching
from tests.support.upstream import upstream
from tests.support.wire import End

CLOSE = frame(b"\x03\xe8", opcode=8, masked=True)


def said(payload: bytes = b"", opcode: int = 1, *, final: bool = True, reserved: int = 0) -> bytes:
    """Return a client's frame, with reserved bits (0 to 7)."""
    data = frame(payload, opcode=opcode, final=final, masked=True)
    return bytes((data[0] | reserved << 4,)) + data[1:]


def fragments(*payloads: bytes, opcode: int = 1) -> bytes:
    first, *others = payloads
    middle = [said(part, 0, final=False) for part in others[:-1]]
    return said(first, opcode, final=False) + b"".join(middle) + said(others[-1], 0)


UTF8 = "κόσμε 🚀".encode()
BAD_UTF8 = UTF8 + b"\xed\xa0\x80edited"

CONVERSATIONS: dict[str, bytes] = {
    # 1: text and binary messages of all lengths
    **{f"1.1 text of {n}": said(b"*" * n) for n in (0, 125, 126, 127, 128, 65535, 65536)},
    **{f"1.2 binary of {n}": said(b"\xfe" * n, 2) for n in (0, 125, 126, 127, 128, 65535, 65536)},
    # 2: pings and pongs
    "2.1 ping": said(b"", 9),
    "2.2 ping with text": said(b"Hello, world!", 9),
    "2.3 ping with binary": said(b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff", 9),
    "2.4 ping of 125": said(b"\xfe" * 125, 9),
    "2.5 ping of 126": said(b"\xfe" * 126, 9),
    "2.7 unsolicited pong": said(b"", 10) + said(b"", 9),
    "2.10 ten pings": b"".join(said(b"payload %d" % n, 9) for n in range(10)),
    # 3: reserved bits
    **{f"3.{n} reserved bits {n}": said(b"small") + said(b"odd", reserved=n) for n in range(1, 8)},
    "3.8 reserved bits of a ping": said(b"x", 9, reserved=5),
    "3.9 reserved bits of a close": said(b"", 8, reserved=7),
    # 4: reserved opcodes
    **{f"4 opcode {n}": said(b"before") + said(b"odd", n) for n in (3, 4, 5, 6, 7)},
    **{f"4 opcode {n}": said(b"before") + said(b"odd", n) for n in (11, 12, 13, 14, 15)},
    # 5: fragments
    "5.1 ping in fragments": said(b"a", 9, final=False) + said(b"b", 0),
    "5.2 pong in fragments": said(b"a", 10, final=False) + said(b"b", 0),
    "5.3 text in fragments": fragments(b"frag", b"ment"),
    "5.6 ping between fragments": said(b"frag", final=False) + said(b"ping", 9) + said(b"ment", 0),
    "5.9 continuation of nothing": said(b"nothing", 0) + said(b"text"),
    "5.12 unfinished continuation of nothing": said(b"nothing", 0, final=False) + said(b"text"),
    "5.18 text inside a text": said(b"frag", final=False) + said(b"ment"),
    "5.19 pings between many fragments": b"".join(
        said(b"%d" % n, 1 if n == 0 else 0, final=n == 9) + said(b"%d" % n, 9) for n in range(10)
    ),
    "5.20 many small fragments": fragments(*[b"*"] * 500),
    "5.21 large fragments": fragments(*[b"*" * 60000] * 5, opcode=2),
    # 6: UTF-8
    "6.1 empty fragments": fragments(b"", b"", b""),
    "6.2 valid text": said(UTF8),
    "6.2 valid text cut inside a character": fragments(UTF8[:3], UTF8[3:]),
    "6.2 a byte a fragment": fragments(*[UTF8[n : n + 1] for n in range(len(UTF8))]),
    "6.3 invalid text": said(BAD_UTF8),
    "6.3 invalid text in fragments": fragments(*[BAD_UTF8[n : n + 2] for n in range(0, 20, 2)]),
    "6.12 overlong": said(b"\xc0\xaf"),
    "6.15 beyond Unicode": said(b"\xf4\x90\x80\x80"),
    # 7: closing
    "7.1 nothing after close": said(b"Hello") + CLOSE + said(b"late") + said(b"late", 9),
    "7.1.4 text after close": CLOSE + said(b"late"),
    "7.1.5 close inside a message": said(b"frag", final=False) + CLOSE + said(b"ment", 0),
    "7.3.1 empty close": said(b"", 8),
    "7.3.2 close of one byte": said(b"a", 8),
    "7.3.4 close with reason": said(b"\x03\xe8Hello World!", 8),
    "7.3.5 longest reason": said(b"\x03\xe8" + b"*" * 123, 8),
    "7.3.6 close of 126": said(b"\x03\xe8" + b"*" * 124, 8),
    "7.5.1 reason that is no UTF-8": said(b"\x03\xe8" + BAD_UTF8, 8),
    **{
        f"7 close {code}": said(code.to_bytes(2, "big"), 8)
        for code in (0, 999, 1000, 1001, 1003, 1004, 1005, 1006, 1007, 1011, 1012, 1016, 1100)
    },
    **{
        f"7.13 close {code}": said(code.to_bytes(2, "big"), 8)
        for code in (2000, 2999, 3000, 3999, 4000, 4999, 5000, 65535)
    },
    # 9: many and large messages
    "9.1 four megabytes": said(b"*" * (4 << 20)),
    "9.3 in fragments": fragments(*[b"*" * 4096] * 256),
    "9.7 a thousand messages": said(b"*" * 16) * 1000,
    # 10 and what no suite has: what a client must not send
    "10.1 automatic fragments": said(b"*" * 65536),
    "unmasked frame": frame(b"unmasked"),
    "no WebSocket at all": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
}


async def echo(end: End) -> None:
    """Answer frame by frame, so that an answer does not depend on how frames arrive together."""
    connection = Connection(ConnectionType.SERVER)
    message: list[Any] = []
    try:
        while connection.state is ConnectionState.OPEN:
            connection.receive_data(bytes(await end.stream.receive_some(65536)) or None)
            for event in connection.events():
                if isinstance(event, Message):
                    message.append(event.data)
                    if event.message_finished:
                        whole = type(event.data)().join(message)
                        await end.send(connection.send(type(event)(whole)))
                        message.clear()
                elif isinstance(event, Ping):
                    await end.send(connection.send(event.response()))
                elif isinstance(event, CloseConnection):
                    # Not with a reason: wsproto's own count bytes from where a read began.
                    await end.send(connection.send(CloseConnection(event.code)))
    except RemoteProtocolError as error:
        hint = error.event_hint
        code = hint.code if isinstance(hint, CloseConnection) else 1002
        await end.send(connection.send(CloseConnection(code)))
    assert isinstance(end.stream, trio.SocketStream)
    await end.stream.send_eof()
    await end.wait_closed()


async def converse(client: End, spoken: bytes, *, piece: int) -> bytes:
    """Say all of it, and a Close frame; return what came back until the end."""
    data = spoken + CLOSE
    heard = len(client.received)

    async def say() -> None:
        for start in range(0, len(data), piece):
            try:
                await client.send(data[start : start + piece])
            except trio.BrokenResourceError:
                return

    async with trio.open_nursery() as nursery:
        nursery.start_soon(say)
        await client.wait_closed()
    return bytes(client.received[heard:])


@pytest.mark.parametrize("piece", [1 << 30, 7], ids=["at once", "in pieces"])
async def test_every_conversation_goes_as_it_does_without(piece: int) -> None:
    different = []
    async with upstream(switching(echo)) as server, proxy() as swproxy:
        for name, spoken in CONVERSATIONS.items():
            if piece < 100 and len(spoken) > 20000:
                continue  # nothing that is not cut by the kernel as well
            direct = End(await trio.open_tcp_stream(server.host, server.port))
            await direct.send(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + LINES + b"\r\n")
            await direct.read_head()
            expected = await converse(direct, spoken, piece=piece)
            await direct.aclose()
            client = await swproxy.connect()
            response = await ask(client, swproxy, server.url.replace("http", "ws"))
            assert response.status == 101
            if await converse(client, spoken, piece=piece) != expected:
                different.append(name)
            assert expected, name
            await client.aclose()
    assert different == []
