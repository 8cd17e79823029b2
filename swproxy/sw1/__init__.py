"""SW1: a URL that allows one request, for a while, and says so itself.

Whoever knows an application's secret can sign; whoever is given the URL can send that request and
no other. This room is pure: it reads no clock, no file and no socket, and needs only the standard
library. What follows is the whole scheme, enough to write a client from.

The URL
=======
A signed URL is the proxy's address, path prefix included, and these query parameters::

    https://edge.example/?X-Sw-Algorithm=SW1-HMAC-SHA256
        &X-Sw-Credential=ID/YYYYMMDD         the application, and the day of the date
        &X-Sw-Date=YYYYMMDDTHHMMSSZ          when it was signed, in UTC
        &X-Sw-Expires=SECONDS                how long it holds from then on, at least 1
        &X-Sw-Proxy=URL                      where the request is to go: http, https, ws or wss
        &X-Sw-SignedHeaders=a;b              lower-case names of the headers that are signed
        &X-Sw-Body=true|false                whether the body is signed
        &X-Sw-Signature=HEX                  64 lower-case hexadecimal digits

each value escaped as a query value (UTF-8, then RFC 3986, section 2.1). The address always has a
path: `https://edge.example` is signed and called as `https://edge.example/`, a prefix `/sw` as
`/sw/`. Expires is plain digits without a leading zero. The order in the URL is free; clients write
the above. Parameters of other names may be added: they are neither signed nor forwarded. Nothing
else may begin with `X-Sw-`, in any case or escaping, and nothing may be given twice.

The signature
=============
1. The canonical query: the seven parameters other than the signature, `name=value` with the value
   escaped, sorted, joined with `&`. (Sorted they are Algorithm, Body, Credential, Date, Expires,
   Proxy, SignedHeaders.)
2. The canonical request, LF being one line feed::

       METHOD LF path LF canonical query LF header lines LF LF header names LF body

   The method as it will be sent. The path without query. The header lines are
   `lower-case name:value`, the value without space at its ends, sorted and joined with LF. The
   header names are lower-case, sorted, joined with `;`. With no signed header both are empty, and
   all the line feeds stay. The body is empty unless X-Sw-Body is true, and is otherwise the
   bytes that will be sent; text is UTF-8.
3. The string to sign::

       SW1-HMAC-SHA256 LF X-Sw-Date LF YYYYMMDD LF hex(sha256(canonical request))

4. The key of the day: `HMAC-SHA256(key="SW1-HMAC-SHA256" + secret, message=YYYYMMDD)`, 32 bytes.
5. The signature: `hex(HMAC-SHA256(key=key of the day, message=string to sign))`.

A client that signs a body adds the header Content-Length to those that are signed.

What a verifier takes
=====================
Clients escape differently, and browsers and proxies escape anew. These spellings of the same
decoded values are tried: as received; a space as `+` or as `%20`; `! ' ( ) *` escaped or bare
(bare ones go with `%20`). A new client does best to escape all but `A-Z a-z 0-9 - . _ ~`, with
upper-case digits. The path is taken as received, escaped once more, or decoded and escaped.
Content-Length may have been counted in bytes (recommended), code points or UTF-16 units of the
signed body, and may be absent from a chunked upload. A signed header must come exactly once, with
the very bytes that were signed. The destination is used exactly as it was signed.

A URL holds while `date - skew <= now < date + expires`: at the second it expires it is refused.
The skew (60 seconds) and the longest allowed expiry (a week) are configured. Every refusal has a
code and a sentence; that of an unknown id is that of a wrong secret.

Test vectors
============
Known answer: id `foo`, secret `secret`, 1970-01-01 00:00:00 UTC, expiry 600, `POST`,
`https://github.com/`, host `http://localhost:3000`, nothing else signed. Canonical request::

    POST
    /
    X-Sw-Algorithm=SW1-HMAC-SHA256&X-Sw-Body=false&X-Sw-Credential=foo%2F19700101
        &X-Sw-Date=19700101T000000Z&X-Sw-Expires=600&X-Sw-Proxy=https%3A%2F%2Fgithub.com%2F
        &X-Sw-SignedHeaders=

(the query is one line; four line feeds follow it and end the text). Its SHA-256 is
`335fc17d0a7b347acb2acbf0b98f1f1eae521d92fdc2520f960d4abe0fc404a9`, the signature
`ed15db76d806155fd5119e093a0f030063c90d943dfdd27e011a9044a77a90a6`.

The same with the header `X-Foo: foo` and the body `{"a": "é"}`, 11 bytes, Content-Length counted
so. The canonical request ends in::

    &X-Sw-SignedHeaders=x-foo%3Bcontent-length
    content-length:11
    x-foo:foo

    content-length;x-foo
    {"a": "é"}

without a line feed after the body; X-Sw-Body is true. Its SHA-256 is
`8036bfa9f7ed238f5b1f970b412b05100795b9a30d13e03f70aad974d3ff04b1`, the signature
`9441057ee3f54ac22081195e7eefdd277deba36f5b46cebc15d06b9150904edc`.

Many more, made by three published clients, are in `tests/data/sdk_urls.json`. While writing one,
`swproxy explain` shows the canonical request of a URL and names common mistakes.
"""
