"""One way to measure a set of samples, and the studies that use it."""
