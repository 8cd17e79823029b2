"""Pure values: what is configured, where a request may go, and what travels with it."""
