"""The life of a request, in trio: connection, verify, destination, upstream, relay."""
