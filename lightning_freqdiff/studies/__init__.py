"""Studies of a finished model: compare caches, tune them, calibrate them."""
