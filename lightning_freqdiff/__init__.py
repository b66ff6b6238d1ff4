"""Generate time series with diffusion in the frequency domain, fast."""

__version__ = "0.2.0"
