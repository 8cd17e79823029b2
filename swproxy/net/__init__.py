"""Sockets: connections dialled and kept, and bytes moved from one to another.

The room knows upstreams by origin and bytes by the flow they belong to; what a request is, who
sent it and whether it may go on is decided above. Begin with `stream`, one connected socket, then
`pump`, the one task that moves the bytes of every answer under way.
"""
