"""What a stream sends at once: all that the kernel takes, however many records that is."""

import socket
import ssl

import trio

from swproxy.net.flow import RECORD_SIZE
from swproxy.net.stream import SocketStream
from tests.support.wire import PATIENCE, client_context, server_context


async def test_several_records_leave_without_a_wait_between_them() -> None:
    left, right = socket.socketpair()
    left.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    data = bytes(range(256)) * 256
    async with trio.open_nursery() as nursery:
        theirs = trio.SSLStream(
            trio.SocketStream(trio.socket.from_stdlib_socket(right)),
            server_context(),
            server_side=True,
        )
        nursery.start_soon(theirs.do_handshake)
        with trio.fail_after(PATIENCE):
            ours = await SocketStream(left).handshake(client_context(), "localhost")
    assert isinstance(ours.socket, ssl.SSLSocket)
    assert len(data) > 3 * RECORD_SIZE
    assert ours.send_now(data) == ours.sent == len(data)
    received = b""
    with trio.fail_after(PATIENCE):
        while len(received) < len(data):
            received += await theirs.receive_some(65536)
        assert received == data
        # What the kernel has no room for is left to the caller, and counted to the byte.
        sent = 0
        while taken := ours.send_now(data):
            sent += taken
        assert ours.sent == len(data) + sent
        taken = 0
        while taken < sent:
            taken += len(await theirs.receive_some(65536))
    assert taken == sent
    ours.close()
    await trio.aclose_forcefully(theirs)
