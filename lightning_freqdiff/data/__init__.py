"""Data sets: LightningDataModules that yield series `(B, N, M)` and know nothing of diffusion."""

from lightning_freqdiff.data.array import ArrayData
from lightning_freqdiff.data.base import SeriesData
from lightning_freqdiff.data.droughts import USDroughts
from lightning_freqdiff.data.heartbeats import ECG
from lightning_freqdiff.data.long_series import ETT
from lightning_freqdiff.data.mimic import MIMIC3
from lightning_freqdiff.data.named import NamedData
from lightning_freqdiff.data.nasa import NASA
from lightning_freqdiff.data.nasdaq import NASDAQ
from lightning_freqdiff.data.series import Series
from lightning_freqdiff.data.sines import Sines
from lightning_freqdiff.data.synthetic import SyntheticECG
from lightning_freqdiff.data.timegan import Energy, Stocks
from lightning_freqdiff.data.ucr import UCR

__all__ = [
    "ECG",
    "ETT",
    "MIMIC3",
    "NASA",
    "NASDAQ",
    "UCR",
    "ArrayData",
    "Energy",
    "NamedData",
    "Series",
    "SeriesData",
    "Sines",
    "Stocks",
    "SyntheticECG",
    "USDroughts",
]
