"""Data sets: LightningDataModules that yield series `(B, N, M)` and know nothing of diffusion."""

from lightning_freqdiff.data.base import SeriesData
from lightning_freqdiff.data.loaded import LoadedData
from lightning_freqdiff.data.series.dataset import Batch
from lightning_freqdiff.data.series.series import Series
from lightning_freqdiff.data.sets.array import ArrayData
from lightning_freqdiff.data.sets.droughts import USDroughts
from lightning_freqdiff.data.sets.heartbeats import ECG
from lightning_freqdiff.data.sets.long_series import ETT
from lightning_freqdiff.data.sets.mimic import MIMIC3
from lightning_freqdiff.data.sets.named import NamedData
from lightning_freqdiff.data.sets.nasa import NASA
from lightning_freqdiff.data.sets.nasdaq import NASDAQ
from lightning_freqdiff.data.sets.sharded import ShardedData
from lightning_freqdiff.data.sets.sines import Sines
from lightning_freqdiff.data.sets.synthetic import SyntheticECG
from lightning_freqdiff.data.sets.timegan import Energy, Stocks
from lightning_freqdiff.data.sets.ucr import UCR

__all__ = [
    "ECG",
    "ETT",
    "MIMIC3",
    "NASA",
    "NASDAQ",
    "UCR",
    "ArrayData",
    "Batch",
    "Energy",
    "LoadedData",
    "NamedData",
    "Series",
    "SeriesData",
    "ShardedData",
    "Sines",
    "Stocks",
    "SyntheticECG",
    "USDroughts",
]
