"""Requests that are not to be served, by what is wrong with them: data for several test modules.

Each is a whole request, with `TARGET` where a signed target goes, so that nothing but the fault
named stands between it and an upstream. RFC 9112 is gone through in its order.
"""

TARGET = b"{target}"

LINE = b"POST {target} HTTP/1.1\r\n"
HOST = b"Host: swproxy.test\r\n"
BODY = b"5\r\nhello\r\n0\r\n\r\n"


def _post(*lines: bytes, body: bytes = b"", line: bytes = LINE, host: bytes = HOST) -> bytes:
    return line + host + b"".join(each + b"\r\n" for each in lines) + b"\r\n" + body


def _chunked(value: bytes) -> bytes:
    return _post(b"Transfer-Encoding:" + value, body=BODY)


def _length(value: bytes) -> bytes:
    return _post(b"Content-Length:" + value, body=b"hello")


CHUNKED = b"Transfer-Encoding: chunked"

FRAMING = {
    "CL.TE": _post(b"Content-Length: 5", CHUNKED, body=BODY),
    "TE.CL": _post(CHUNKED, b"Content-Length: 5", body=BODY),
    "TE.CL, apart": _post(CHUNKED, b"X-A: b", b"Content-Length: 15", body=BODY),
    "CL.TE, other case": _post(b"content-length: 15", b"TRANSFER-ENCODING: chunked", body=BODY),
    "CL.TE with no body": _post(b"Content-Length: 0", CHUNKED, body=BODY),
    "TE.TE": _post(CHUNKED, CHUNKED, body=BODY),
    "TE.TE, first identity": _post(b"Transfer-Encoding: identity", CHUNKED, body=BODY),
    "TE.TE, second identity": _post(CHUNKED, b"Transfer-Encoding: identity", body=BODY),
    "TE.TE, second unknown": _post(CHUNKED, b"Transfer-Encoding: cow", body=BODY),
    "TE.TE, second empty": _post(CHUNKED, b"Transfer-Encoding:", body=BODY),
    "TE in HTTP/1.0": _post(CHUNKED, body=BODY, line=LINE.replace(b"1.1", b"1.0")),
    "TE empty": _chunked(b""),
    "TE identity": _chunked(b" identity"),
    "TE gzip": _chunked(b" gzip"),
    "TE gzip, chunked": _chunked(b" gzip, chunked"),
    "TE chunked, gzip": _chunked(b" chunked, gzip"),
    "TE chunked, identity": _chunked(b" chunked, identity"),
    "TE identity, chunked": _chunked(b" identity, chunked"),
    "TE chunked, chunked": _chunked(b" chunked, chunked"),
    "TE chunked and a comma": _chunked(b" chunked,"),
    "TE a comma and chunked": _chunked(b" ,chunked"),
    "TE xchunked": _chunked(b" xchunked"),
    "TE chunkedx": _chunked(b" chunkedx"),
    "TE chunked;q=1": _chunked(b" chunked;q=1"),
    "TE quoted": _chunked(b' "chunked"'),
    "TE in single quotes": _chunked(b" 'chunked'"),
    "TE behind a vertical tab": _chunked(b" \x0bchunked"),
    "TE before a vertical tab": _chunked(b" chunked\x0b"),
    "TE behind a form feed": _chunked(b" \x0cchunked"),
    "TE behind NUL": _chunked(b" \x00chunked"),
    "TE before NUL": _chunked(b" chunked\x00"),
    "TE behind a no-break space": _chunked(b" \xa0chunked"),
    "TE behind U+0085": _chunked(b" \xc2\x85chunked"),
    "TE behind a bare CR": _chunked(b" \rchunked"),
    "TE before a bare CR": _chunked(b" chunked\r"),
    "TE behind DEL": _chunked(b" \x7fchunked"),
    "TE folded": _chunked(b"\r\n chunked"),
    "TE folded by a tab": _chunked(b"\r\n\tchunked"),
    "TE folded behind chunked": _chunked(b" chunked\r\n , identity"),
    "TE with k of another alphabet": _chunked(" chun\u212aed".encode()),
    "TE, blank before the colon": _post(b"Transfer-Encoding : chunked", body=BODY),
    "TE, tab before the colon": _post(b"Transfer-Encoding\t: chunked", body=BODY),
    "TE, vertical tab before the colon": _post(b"Transfer-Encoding\x0b: chunked", body=BODY),
    "TE, NUL before the colon": _post(b"Transfer-Encoding\x00: chunked", body=BODY),
    "TE, CR before the colon": _post(b"Transfer-Encoding\r: chunked", body=BODY),
    "TE, blank before the name": _post(b"X-A: b", b" Transfer-Encoding: chunked", body=BODY),
    "TE behind a bare LF": _post(b"X-A: b\nTransfer-Encoding: chunked", body=BODY),
    "TE behind a bare CR in another value": _post(b"X-A: b\rTransfer-Encoding: chunked", body=BODY),
    "TE as the first line": LINE + b" Transfer-Encoding: chunked\r\n" + HOST + b"\r\n" + BODY,
    "CL twice, the same": _post(b"Content-Length: 5", b"Content-Length: 5", body=b"hello"),
    "CL twice, different": _post(b"Content-Length: 5", b"Content-Length: 6", body=b"hello"),
    "CL twice, one in other case": _post(b"Content-Length: 5", b"CONTENT-LENGTH: 0", body=b"hello"),
    "CL list": _length(b" 5, 5"),
    "CL list, different": _length(b" 5, 6"),
    "CL with a comma": _length(b" 5,"),
    "CL empty": _length(b""),
    "CL blank": _length(b"  "),
    "CL with a plus": _length(b" +5"),
    "CL with a minus": _length(b" -5"),
    "CL minus zero": _length(b" -0"),
    "CL with a leading zero": _length(b" 05"),
    "CL zero zero": _length(b" 00"),
    "CL hexadecimal": _length(b" 0x5"),
    "CL with hexadecimal digits": _length(b" a"),
    "CL with an underscore": _length(b" 1_0"),
    "CL with a fraction": _length(b" 5.0"),
    "CL with an exponent": _length(b" 5e0"),
    "CL with a blank inside": _length(b" 5 5"),
    "CL in other digits": _length(" \u0665".encode()),
    "CL with a superscript": _length(" 5\u00b2".encode()),
    "CL quoted": _length(b' "5"'),
    "CL behind a vertical tab": _length(b" \x0b5"),
    "CL behind NUL": _length(b" \x005"),
    "CL before NUL": _length(b" 5\x00"),
    "CL of 2**64": _length(b" 18446744073709551616"),
    "CL of 2**64 + 5": _length(b" 18446744073709551621"),
    "CL of 300 digits": _length(b" " + b"9" * 300),
    "CL folded": _length(b"\r\n 5"),
    "CL folded behind its value": _length(b" 5\r\n 0"),
    "CL, blank before the colon": _post(b"Content-Length : 5", body=b"hello"),
    "CL behind a bare LF": _post(b"X-A: b\nContent-Length: 5", body=b"hello"),
    "CL behind a bare CR": _post(b"X-A: b\rContent-Length: 5", body=b"hello"),
    "the head ends in bare LFs": LINE + b"Host: a\r\nContent-Length: 5\n\nhello",
    "the head ends in CRLF LF": LINE + b"Host: a\r\nContent-Length: 5\r\n\nhello",
    "the head ends in LF CRLF": LINE + b"Host: a\r\nContent-Length: 5\n\r\nhello",
    "the head ends in CR CRLF": LINE + b"Host: a\r\nContent-Length: 5\r\r\n\r\nhello",
    "an empty line of one CR": LINE + b"Host: a\r\n\rContent-Length: 5\r\n\r\nhello",
}
"""Whose body could end in two places: RFC 9112 sections 2.2, 5, 6 and 11.2."""


def _line(line: bytes) -> bytes:
    return line + b"\r\n" + HOST + b"\r\n"


def _header(line: bytes) -> bytes:
    return b"GET {target} HTTP/1.1\r\n" + HOST + line + b"\r\nX-B: c\r\n\r\n"


def _host(*values: bytes) -> bytes:
    lines = b"".join(b"Host:" + value + b"\r\n" for value in values)
    return b"GET {target} HTTP/1.1\r\n" + lines + b"\r\n"


SYNTAX = {
    # Section 2.2, message parsing; 3, request line
    "HTTP/0.9": b"GET {target}\r\n",
    "HTTP/0.9 with an empty line": b"GET {target}\r\n\r\n",
    "no target": _line(b"GET HTTP/1.1"),
    "an empty target": _line(b"GET  HTTP/1.1"),
    "no method": _line(b"{target} HTTP/1.1"),
    "an empty method": _line(b" {target} HTTP/1.1"),
    "two blanks before the target": _line(b"GET  {target} HTTP/1.1"),
    "two blanks before the version": _line(b"GET {target}  HTTP/1.1"),
    "a tab before the target": _line(b"GET\t{target} HTTP/1.1"),
    "a tab before the version": _line(b"GET {target}\tHTTP/1.1"),
    "a vertical tab before the version": _line(b"GET {target}\x0bHTTP/1.1"),
    "a bare CR before the version": _line(b"GET {target}\rHTTP/1.1"),
    "a blank before the method": _line(b" GET {target} HTTP/1.1"),
    "a blank after the version": _line(b"GET {target} HTTP/1.1 "),
    "a word after the version": _line(b"GET {target} HTTP/1.1 x"),
    "a blank in the target": _line(b"GET {target} x HTTP/1.1"),
    "two request lines": _line(b"GET {target} HTTP/1.1\r\nGET {target} HTTP/1.1"),
    "a request line that ends in LF": b"GET {target} HTTP/1.1\nHost: a\r\n\r\n",
    "all lines end in LF": b"GET {target} HTTP/1.1\nHost: a\n\n",
    "all lines end in CR": b"GET {target} HTTP/1.1\rHost: a\r\r",
    "a bare LF before the request": b"\nGET {target} HTTP/1.1\r\nHost: a\r\n\r\n",
    "a bare CR before the request": b"\rGET {target} HTTP/1.1\r\nHost: a\r\n\r\n",
    "a blank line before the request": b" \r\nGET {target} HTTP/1.1\r\nHost: a\r\n\r\n",
    "a byte order mark": b"\xef\xbb\xbfGET {target} HTTP/1.1\r\nHost: a\r\n\r\n",
    "a NUL before the request": b"\x00GET {target} HTTP/1.1\r\nHost: a\r\n\r\n",
    # Section 2.3, version
    "lower-case http": _line(b"GET {target} http/1.1"),
    "mixed-case Http": _line(b"GET {target} Http/1.1"),
    "no version number": _line(b"GET {target} HTTP/"),
    "no minor version": _line(b"GET {target} HTTP/1"),
    "an empty minor version": _line(b"GET {target} HTTP/1."),
    "HTTP/1.2": _line(b"GET {target} HTTP/1.2"),
    "HTTP/1.10": _line(b"GET {target} HTTP/1.10"),
    "HTTP/01.1": _line(b"GET {target} HTTP/01.1"),
    "HTTP/1.01": _line(b"GET {target} HTTP/1.01"),
    "HTTP/+1.1": _line(b"GET {target} HTTP/+1.1"),
    "HTTP/1,1": _line(b"GET {target} HTTP/1,1"),
    "HTTP/0.9 spelt out": _line(b"GET {target} HTTP/0.9"),
    "HTTP/2.0": _line(b"GET {target} HTTP/2.0"),
    "HTTP/3": _line(b"GET {target} HTTP/3"),
    "HTTP/9.9": _line(b"GET {target} HTTP/9.9"),
    "HTTP 1.1": _line(b"GET {target} HTTP 1.1"),
    "HTTPS/1.1": _line(b"GET {target} HTTPS/1.1"),
    "HTCPCP/1.0": _line(b"GET {target} HTCPCP/1.0"),
    "other digits": _line("GET {target} HTTP/1.\u0661".encode()),
    "HTTP/2's preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a TLS handshake": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\xaa" * 32,
    "a PROXY protocol line": b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\nGET {target} HTTP/1.1\r\n\r\n",
    # Section 3.1, method
    "a method in brackets": _line(b"G(T {target} HTTP/1.1"),
    "a method with a NUL": _line(b"G\x00T {target} HTTP/1.1"),
    "a method with a colon": _line(b"GET: {target} HTTP/1.1"),
    "a method with a letter beyond ASCII": _line("G\u00cbT {target} HTTP/1.1".encode()),
    "a method of 33 letters": _line(b"A" * 33 + b" {target} HTTP/1.1"),
    # Section 3.2, target
    "absolute-form": _line(b"GET http://swproxy.test{target} HTTP/1.1"),
    "absolute-form of another host": _line(b"GET http://elsewhere.test{target} HTTP/1.1"),
    "absolute-form of a secret scheme": _line(b"GET file:///etc/passwd HTTP/1.1"),
    "asterisk-form": _line(b"GET * HTTP/1.1"),
    "asterisk-form of OPTIONS": _line(b"OPTIONS * HTTP/1.1"),
    "authority-form": _line(b"GET swproxy.test:80 HTTP/1.1"),
    "no leading slash": _line(b"GET x{target} HTTP/1.1"),
    "only a query": _line(b"GET ?a HTTP/1.1"),
    "a fragment": _line(b"GET {target}#f HTTP/1.1"),
    "a backslash": _line(b"GET \\{target} HTTP/1.1"),
    "a backslash inside": _line(b"GET {target}\\ HTTP/1.1"),
    "a byte beyond ASCII in the target": _line(b"GET {target}\xe9 HTTP/1.1"),
    "UTF-8 in the target": _line("GET {target}é HTTP/1.1".encode()),
    "a NUL in the target": _line(b"GET {target}\x00 HTTP/1.1"),
    "DEL in the target": _line(b"GET {target}\x7f HTTP/1.1"),
    "a tab in the target": _line(b"GET {target}\tx HTTP/1.1"),
    "a bare CR in the target": _line(b"GET {target}\rx HTTP/1.1"),
    "a bare LF in the target": _line(b"GET {target}\nx HTTP/1.1"),
    # Section 3.2, Host
    "no Host": b"GET {target} HTTP/1.1\r\nX-A: b\r\n\r\n",
    "no header at all": b"GET {target} HTTP/1.1\r\n\r\n",
    "two Hosts": _host(b" a", b" b"),
    "the same Host twice": _host(b" a", b" a"),
    "an empty Host": _host(b""),
    "a blank Host": _host(b"  "),
    "two Hosts, one empty": _host(b" a", b""),
    "Host with a blank": _host(b" a b"),
    "Host with a comma and a blank": _host(b" a, b"),
    "Host with a path": _host(b" a/b"),
    "Host with a query": _host(b" a?b"),
    "Host with a fragment": _host(b" a#b"),
    "Host with a user": _host(b" user@a"),
    "Host with a password": _host(b" user:pass@a"),
    "Host with a scheme": _host(b" http://a"),
    "Host with a backslash": _host(b" a\\b"),
    "Host with letters for a port": _host(b" a:b"),
    "Host with two ports": _host(b" a:80:80"),
    "Host with a port too long": _host(b" a:123456"),
    "Host with a negative port": _host(b" a:-1"),
    "Host with only a port": _host(b" :80"),
    "Host with half a bracket": _host(b" [::1"),
    "Host with an address that is none": _host(b" [hello]"),
    "Host with a zone": _host(b" [fe80::1%25eth0]"),
    "Host with a bad percent sign": _host(b" a%zz"),
    "Host with a quote": _host(b' a"b'),
    "Host beyond ASCII": _host(" bücher.test".encode()),
    "Host with a tab inside": _host(b" a\tb"),
    "Host with NUL": _host(b" a\x00b"),
    # Section 5, header fields
    "no colon": _header(b"X-A"),
    "an empty name": _header(b": b"),
    "a blank before the colon": _header(b"X-A : b"),
    "a tab before the colon": _header(b"X-A\t: b"),
    "a blank in the name": _header(b"X A: b"),
    "a NUL in the name": _header(b"X\x00A: b"),
    "DEL in the name": _header(b"X\x7fA: b"),
    "a bracket in the name": _header(b"X(A): b"),
    "a slash in the name": _header(b"X/A: b"),
    "an at sign in the name": _header(b"X@A: b"),
    "a quote in the name": _header(b'"X-A": b'),
    "a letter beyond ASCII in the name": _header("X-\u00c4: b".encode()),
    "a bare CR in the name": _header(b"X\rA: b"),
    "a NUL in the value": _header(b"X-A: b\x00c"),
    "a control character in the value": _header(b"X-A: b\x01c"),
    "an escape in the value": _header(b"X-A: \x1b[2J"),
    "a backspace in the value": _header(b"X-A: b\x08c"),
    "a vertical tab in the value": _header(b"X-A: b\x0bc"),
    "DEL in the value": _header(b"X-A: b\x7f"),
    "a bare CR in the value": _header(b"X-A: b\rX-C: d"),
    "a bare CR at the value's end": _header(b"X-A: b\r"),
    "a bare LF in the value": _header(b"X-A: b\nX-C: d"),
    "a folded value": _header(b"X-A: b\r\n c"),
    "a value folded by a tab": _header(b"X-A: b\r\n\tc"),
    "a value folded onto an empty line": _header(b"X-A: b\r\n "),
    "a folded Host": _host(b"\r\n a"),
    "a fold before the first header": b"GET {target} HTTP/1.1\r\n X-A: b\r\n" + HOST + b"\r\n",
}
"""Malformed in another way than by its framing: RFC 9112 sections 2, 3 and 5."""

METHODS = {
    "TRACE": _line(b"TRACE {target} HTTP/1.1"),
    "CONNECT": _line(b"CONNECT swproxy.test:443 HTTP/1.1"),
    "CONNECT of a path": _line(b"CONNECT {target} HTTP/1.1"),
}
"""Well-formed, and answered 405."""
