"""Lightning callbacks around training and sampling, one a file."""

from lightning_freqdiff.callbacks.progress import SamplingProgress
from lightning_freqdiff.callbacks.sample_writer import SampleWriter

__all__ = ["SampleWriter", "SamplingProgress"]
