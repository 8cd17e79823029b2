"""SW1: a URL that allows one request, for a while, and says so itself.

Whoever knows an application's secret can sign; whoever is given the URL can send that request and
no other. The whole scheme, enough to write a client from, is in docs/signing.md. The room is pure:
it reads no clock, no file and no socket, knows no application but by the secrets that it is handed,
and needs only the standard library. Begin with `canonical`, the text that signer and verifier must
both arrive at, then `sign` and `verify`.
"""
