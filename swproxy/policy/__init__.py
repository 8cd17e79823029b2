"""Rules, as pure values: where a request may go, what travels with it, and how it can end badly.

Destinations and the addresses behind them, header fields, pages' origins, clients, problems. The
room reads no file, no clock and no socket, and does not know where its rules were configured.
Begin with `destination`, then `headers`.
"""
