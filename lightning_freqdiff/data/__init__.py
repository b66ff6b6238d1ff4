"""Data sets: LightningDataModules that yield series `(B, N, M)` and know nothing of diffusion."""

from lightning_freqdiff.data.array import ArrayData
from lightning_freqdiff.data.base import SeriesData
from lightning_freqdiff.data.series import Series
from lightning_freqdiff.data.synthetic import SyntheticECG

__all__ = ["ArrayData", "Series", "SeriesData", "SyntheticECG"]
