"""Where to listen: the spellings that are taken, and why the others are not."""

import pytest

from swproxy.config.listen_address import ListenAddress, TcpAddress, UnixAddress, parse_listen


@pytest.mark.parametrize(
    ("text", "address", "spelled"),
    [
        ("127.0.0.1:3000", TcpAddress("127.0.0.1", 3000), None),
        ("0.0.0.0:0", TcpAddress("0.0.0.0", 0), None),
        ("[::1]:65535", TcpAddress("::1", 65535), None),
        ("[fe80::1%eth0]:80", TcpAddress("fe80::1%eth0", 80), None),
        ("[0:0::1]:80", TcpAddress("::1", 80), "[::1]:80"),
        ("localhost:3000", TcpAddress("localhost", 3000), None),
        ("edge-1.example.com:443", TcpAddress("edge-1.example.com", 443), None),
        ("unix:/run/swproxy/s.sock", UnixAddress("/run/swproxy/s.sock"), None),
        ("unix://run//s", UnixAddress("//run/s"), None),
    ],
)
def test_parse(text: str, address: ListenAddress, spelled: str | None) -> None:
    assert parse_listen(text) == address
    assert str(address) == spelled or text.startswith("unix:") or str(address) == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no port"),
        ("3000", "no port"),
        ("127.0.0.1", "no port"),
        (":3000", "no host"),
        ("127.0.0.1:", "no valid port"),
        ("127.0.0.1:65536", "no valid port"),
        ("127.0.0.1:-1", "no valid port"),
        ("127.0.0.1:٣", "no valid port"),
        ("::1:3000", "brackets"),
        ("[::1]", "no valid port"),
        ("[1.2.3.4]:80", "no valid IPv6"),
        ("[fe80::1%eth0\n]:80", "no valid IPv6"),
        ("1.2.3:80", "no valid host"),
        ("a b:80", "no valid host"),
        ("-a:80", "no valid host"),
        ("http://127.0.0.1:80", "without a scheme"),
        ("unix:run/s", "absolute path"),
        ("unix:", "absolute path"),
        ("unix:/run/", "absolute path"),
        ("unix:/" + "x" * 103, "longer than 103 bytes"),
    ],
)
def test_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_listen(text)
