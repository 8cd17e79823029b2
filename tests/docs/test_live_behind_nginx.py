"""docs/watching.md: the live page behind nginx, by the site that is shown there."""

import base64
import subprocess
from pathlib import Path

from swproxy.config.listen_address import TcpAddress
from tests.support.live import look
from tests.support.nginx import Nginx, free_port, run_nginx
from tests.support.pages import block
from tests.support.parts import require
from tests.support.proxy import proxy
from tests.support.shell import shell
from tests.support.wire import authority

NAME = "watch.example.com"
PASSWORD = "canary-password"
BASIC = b"Authorization: Basic " + base64.b64encode(f"ada:{PASSWORD}".encode())


def site(work: Path, port: int, admin_port: int) -> str:
    """The page's own, with addresses, certificate and passwords where a test may have them."""
    made = block("password").replace("/etc/nginx/", f"{work}/")
    done = shell(work, f"PASSWORD={PASSWORD}\n{made}")
    assert done.returncode == 0, done.stderr
    certificate = authority().issue_cert("localhost")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(work / "certificate.pem"))
    text = block("watch.conf")
    for old, new in (
        ("listen 443 ", f"listen 127.0.0.1:{port} "),
        ("/etc/ssl/watch.pem", f"{work}/certificate.pem"),
        ("/etc/nginx/", f"{work}/"),
        ("127.0.0.1:3001", f"127.0.0.1:{admin_port}"),
    ):
        assert old in text, old
        text = text.replace(old, new)
    return text


async def ask(edge: Nginx, line: bytes, *lines: bytes, body: bytes = b"") -> tuple[int, bytes]:
    client = await edge.connect()
    fields = [b"Host: watch.example.com", b"Content-Length: %d" % len(body), *lines]
    head = line + b" HTTP/1.1\r\n" + b"".join(each + b"\r\n" for each in fields)
    await client.send(head + b"\r\n" + body)
    response = await client.read_response()
    return response.status, response.body


async def test_the_page_is_there_for_who_knows_the_password(tmp_path: Path) -> None:
    settings = {
        "admin_listen": TcpAddress("127.0.0.1", 0),
        "admin_hosts": (NAME,),
        "admin_actions": True,
    }
    async with proxy(server=settings) as swproxy:
        port = free_port()
        text = site(tmp_path, port, swproxy.addresses[-1][1])
        async with run_nginx(tmp_path, port, text) as edge:
            for path in (b"/", b"/live", b"/metrics"):
                assert (await ask(edge, b"GET " + path))[0] == 401
            status, page = await ask(edge, b"GET /", BASIC)
            assert status == 200
            assert b"live.js" in page
            stream = (await edge.connect()).stream
            async with look(stream, BASIC, host=NAME) as looker:
                assert looker.head.startswith(b"HTTP/1.1 200 ")
                # Each frame as it comes: nothing on the way gathers them.
                assert (await looker.next())["v"] == 1
                assert (await looker.next())["seconds"] > 0
            own = (b"Content-Type: application/json", b"Origin: https://watch.example.com", BASIC)
            status, said = await ask(edge, b"POST /end", *own, body=b'{"id":"none"}')
            assert (status, said) == (404, b"there is no such call under way\n")


def test_ssh_takes_the_tunnels_as_written() -> None:
    ssh = require("ssh", "openssh-client")
    for line in block("tunnel").splitlines():
        done = subprocess.run(
            [ssh, "-G", *line.split()[1:]], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "localforward 3001 " in done.stdout
