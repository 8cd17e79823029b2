"""The one-command demonstration: a page, a backend that signs, a stand-in model."""
