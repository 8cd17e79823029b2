"""What is on the wire, pure: heads, framing, frames, handshakes, and answers of our own.

Everything here takes bytes and returns values, or the other way about. It knows no socket, no clock
that it was not handed, and no trio, so that each rule of the grammar can be tested byte by byte.
Begin with `request`, the one place where a request's syntax is judged, then `framing`, which tells
where a body ends.
"""
