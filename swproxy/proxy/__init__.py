"""A request's life, in trio: from a client's connection to the end of the answer.

`connection` reads a head, `exchange` takes one request through its life: `admit` says whether it
may go on, `forward` sends it up and relays the answer, `tunnel` does so for a WebSocket. The room
does not know which process it runs in or who reads its log: it tells an `Observer`. Begin with
`exchange`.
"""
