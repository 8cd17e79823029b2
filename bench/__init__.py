"""The benchmark: what a request and a chunk cost, beside the peers, in one session.

`python -m bench` runs everything; `python -m bench sse` runs one scenario. Loopback only, Linux
only (it reads /proc), bounded in time, and it takes every process it started down with it.
"""
