"""The demonstration: a page, a backend that signs, a stand-in model, and swproxy between them.

It uses swproxy as anybody would, through `sign_url` and the daemon, and nothing uses the demo but
the command that starts it. Begin with `main`.
"""
