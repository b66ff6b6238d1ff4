"""Data sets of samples on paths and object stores, a file for each unit, that any number of workers fill."""

from lightning_freqdiff.shards.dataset import SampleSet
from lightning_freqdiff.shards.reading import read_samples
from lightning_freqdiff.shards.store import Store

__all__ = ["SampleSet", "Store", "read_samples"]
