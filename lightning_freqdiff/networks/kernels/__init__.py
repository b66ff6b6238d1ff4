"""How a network is run fast: the one place that knows of CPU arithmetic, chunks of a batch and compiled code."""

from lightning_freqdiff.networks.kernels.attention import attention, feed_forward, full_precision
from lightning_freqdiff.networks.kernels.chunks import chunked
from lightning_freqdiff.networks.kernels.compiled import Compiled
from lightning_freqdiff.networks.kernels.derived import Derived

__all__ = ["Compiled", "Derived", "attention", "chunked", "feed_forward", "full_precision"]
