"""E²-CRF: caching of tokens."""
