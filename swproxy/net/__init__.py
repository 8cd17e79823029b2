"""Sockets: connections dialled and kept, and bytes moved from one to another.

The room knows upstreams by origin and bytes by the flow they belong to; what a request is, who sent
it and whether it may go on is decided above. Begin with `stream`, one connected socket, then
`pump`, the one task that moves the bytes of every answer under way.

What httpcore is for here: its network-backend interface is how connections are dialled, given TLS
and faked in tests (`stream` and `dial` implement all of it, what the proxy itself does not call
included), and its exceptions say what went wrong with a socket. Its pool and its response iterator
are off the data path, being too slow for it; a proxy made of them is the baseline of the bench.
"""
