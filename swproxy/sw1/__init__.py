"""The SW1 signing scheme, as pure functions: what is signed, how, and whether it holds."""
