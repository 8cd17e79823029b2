"""What is typed and what is printed.

Each command reads its arguments here, calls the rooms below, and says what came of it; nothing
else in the house prints. Modules below are imported inside the commands that need them, so that
signing a URL does not wait for a proxy to load. Begin with `main`.
"""
