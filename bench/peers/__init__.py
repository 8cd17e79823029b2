"""The proxies that somebody might take instead, each configured for the same task as swproxy.

Each checks a signature of its own kind, if it knows any. Where one is not installed, the bench
says what to install.
"""
