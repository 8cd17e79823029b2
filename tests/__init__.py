"""The tests: one file per module, plus whole programs over real sockets."""
