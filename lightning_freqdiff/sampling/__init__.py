"""Drawing samples: one loop, its noise, its work units, and the solvers."""
