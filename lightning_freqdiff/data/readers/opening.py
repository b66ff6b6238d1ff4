"""Series in many files, of whichever kind these are."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_freqdiff.data.readers.litdata import LitDataShards, is_litdata
from lightning_freqdiff.data.readers.parquet import ParquetShards
from lightning_freqdiff.data.readers.shards import Shards
from lightning_freqdiff.shards import Store


def open_shards(url: str, columns: Sequence[str] = ()) -> Shards:
    """Look into the files below a path or a URL: chunks of LitData where there is their index, else Parquet.

    Args:
        url: Where they are.
        columns: What the channels are made of; everything that can be if not given.

    Raises:
        ValueError: Where there are none, or they hold something else.
    """
    return LitDataShards(url, columns) if is_litdata(Store(url, "data.path")) else ParquetShards(url, columns)
