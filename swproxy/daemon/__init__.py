"""A process's life: sockets, workers, signals, reload, drain, metrics, log.

The room starts what serves requests and ends it; it never looks into one. Begin with `serve`, then
`supervisor` for the parent and `service` for what runs in each worker.
"""
