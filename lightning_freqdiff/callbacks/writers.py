"""Which writer a run gets: one file on this machine, or a data set of many files anywhere."""

from __future__ import annotations

from typing import Any

from lightning_freqdiff.callbacks.sample_writer import SampleWriter
from lightning_freqdiff.callbacks.shard_writer import ShardWriter
from lightning_freqdiff.shards.store import is_url


def writer(output: str, format: Any = None, shard: str | None = None) -> SampleWriter | ShardWriter:
    """Return the writer of a run.

    Args:
        output: A folder for one file of samples; a URL is for a data set of many.
        format: Of the samples; zarr is for a data set of many files.
        shard: Part of the samples to draw, ``i/n``; makes a data set of many files.

    Examples:
        >>> type(writer("samples")).__name__, type(writer("samples", shard="0/4")).__name__
        ('SampleWriter', 'ShardWriter')
    """
    if is_url(output) or shard is not None or format == "zarr":
        return ShardWriter(output, format or "parquet", shard)
    return SampleWriter(output, format)
