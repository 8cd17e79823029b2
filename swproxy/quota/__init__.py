"""What has been used up: rates, places, budgets, one-time URLs, and what was revoked.

The room knows nothing of HTTP and nothing of configuration files. It is asked one question a call
("may these accounts be charged, all of them?") and told once how the call ended.

Begin with `checks`, the arithmetic of each limit as pure values, then `decide`, which puts several
of them into one decision. `ledger` is the interface that a request sees, whatever store is behind
it; `sqlite` is the store that the workers of one machine share. All but the ledgers is pure: no
trio, and moments are arguments.
"""
