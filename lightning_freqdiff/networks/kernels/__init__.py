"""How a network is run fast: CPU arithmetic, chunks of a batch, compiled code."""
