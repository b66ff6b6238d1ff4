"""Intensive care stays of MIMIC-III (Johnson et al. 2016), for those who have access to it.

Prepared as by Crabbé et al., arXiv 2402.05933, from `all_hourly_data.h5` of MIMIC-Extract (Wang et al. 2020): the
first 24 hours of stays longer than 30, hourly means of vitals and laboratory values, those that vary most.
"""

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from lightning_freqdiff.data.base import require_at_least
from lightning_freqdiff.data.readers.raw_files import RawFiles
from lightning_freqdiff.data.readers.table import REMEDY
from lightning_freqdiff.data.series.series import Series
from lightning_freqdiff.data.series.split import split
from lightning_freqdiff.data.sets.named import NamedData

HOURS, GAP = 24, 6


class MIMIC3(NamedData):
    """MIMIC-III: the first 24 hours of intensive care stays, with the features that vary most.

    The data are restricted, so nothing is downloaded: put `all_hourly_data.h5` of MIMIC-Extract into the folder, or
    `mimic3.npz` with `x` of shape `(n, 24, M)`, NaN where nothing was measured, and `subject_id`. Features are
    standardised by the training part. What was not measured is the last value of the stay, else its mean, else
    that of all. All stays of a patient are on one side of the split, as in the papers.

    Args:
        num_features: How many features to keep, those with the largest spread over training stays.
        **kwargs: Settings of `NamedData`; `split_by` is `subject_id` if not given, and `download` has no effect.
    """

    title: ClassVar[str] = "mimic3"
    kaggle: ClassVar[str] = ""

    def __init__(self, num_features: int = 40, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.split_by = self.split_by or "subject_id"
        require_at_least(1, num_features=num_features)
        self.num_features = num_features

    @property
    def variant(self) -> str:
        """Name of the prepared arrays."""
        return "hourly"

    @property
    def archives(self) -> list[str]:
        """Names of files with ready arrays."""
        return ["mimic3.npz"]

    def raw_files(self) -> RawFiles:
        """Name the file of MIMIC-Extract."""
        return RawFiles([Path("all_hourly_data.h5")])

    def without_files(self, home: Path, download: bool) -> dict[str, np.ndarray]:
        """Say where the file must be: it is not for the public."""
        raise FileNotFoundError(
            f"expected {self.raw_files()} in {home}, found nothing; MIMIC-III is restricted: get access at "
            "PhysioNet, run MIMIC-Extract and put its file there, or set `data.path`"
        )

    def prepare(self, files: list[Path], downloaded: bool) -> dict[str, np.ndarray]:
        """Read the hourly means, NaN where nothing was measured."""
        return read_hourly(files[0])

    def _from_arrays(self, arrays: dict[str, np.ndarray], source: str) -> Series:
        """Standardise, fill and choose features, by the training part alone."""
        series = super()._from_arrays(arrays, source)
        if series.x.ndim != 3 or series.x.dtype.kind != "f":
            return series  # refused by the checks that follow
        index = split(series, self.val_fraction, self.test_fraction, self.seed, self.split_by is not None)
        part = np.empty(len(series), dtype="<U5")
        for name in ("test", "val", "train"):  # without a test part, test is val
            part[index[name]] = name
        x = fill(standardise(series.x, index["train"]))
        spread = x[index["train"]].std(0).mean(0)
        top = np.argsort(-spread, kind="stable")[: self.num_features]
        return replace(series, x=x[..., top], channels=tuple(series.channels[i] for i in top), part=part)


def standardise(x: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Bring each feature of `(n, N, M)` to mean 0 and deviation 1 over what was measured in training stays."""
    seen = x[train].reshape(-1, x.shape[-1]).astype(np.float64)
    count = np.maximum(np.isfinite(seen).sum(0), 1)
    mean = np.nansum(seen, 0) / count
    deviation = np.sqrt(np.nansum((seen - mean) ** 2, 0) / count)
    return ((x - mean) / np.where(deviation > 0, deviation, 1)).astype(np.float32)


def fill(x: np.ndarray) -> np.ndarray:
    """Fill NaN in `(n, N, M)` by the last value before, else by the mean of the series, else by 0.

    >>> fill(np.array([[[np.nan], [1.0], [np.nan], [3.0]]])).ravel().tolist()
    [2.0, 1.0, 1.0, 3.0]
    """
    there = ~np.isnan(x)
    count = there.sum(1, keepdims=True)
    mean = np.where(there, x, 0).sum(1, keepdims=True) / np.maximum(count, 1)
    last = np.maximum.accumulate(np.where(there, np.arange(x.shape[1])[:, None], -1), axis=1)
    before = np.take_along_axis(x, np.maximum(last, 0), axis=1)
    return np.where(last >= 0, before, mean).astype(x.dtype)


def read_hourly(path: Path) -> dict[str, np.ndarray]:
    """Read the first 24 hours of stays that are longer than 30, from the tables of MIMIC-Extract."""
    try:
        pandas = import_module("pandas")
        import_module("tables")
    except ImportError as error:
        raise ImportError(
            f"{path}: pandas and tables are needed to read it, and {error.name} is not installed; "
            'pip install "lightning-freqdiff[mimic]", or give `data.path` a .npz file'
        ) from error
    try:
        patients, hourly = (pandas.read_hdf(path, key) for key in ("patients", "vitals_labs"))
        stays = patients.index.get_level_values("icustay_id")[patients["max_hours"] > HOURS + GAP]
        subject, stay, hour = (hourly.index.get_level_values(n) for n in ("subject_id", "icustay_id", "hours_in"))
        mean = hourly.columns.get_level_values("Aggregation Function") == "mean"
        names = hourly.columns.get_level_values("LEVEL2")[mean]
    except (KeyError, OSError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{path}: expected the tables patients and vitals_labs of MIMIC-Extract, got: {reason}; {REMEDY}"
        ) from error
    rows = np.asarray(stay.isin(stays) & (hour < HOURS) & (hour >= 0))
    _, first, where = np.unique(np.asarray(stay)[rows], return_index=True, return_inverse=True)
    x = np.full((len(first), HOURS, int(mean.sum())), np.nan, np.float32)
    x[where, np.asarray(hour)[rows]] = hourly.loc[rows, mean].to_numpy(np.float32)
    return {"x": x, "columns": np.array(names, dtype=str), "subject_id": np.asarray(subject)[rows][first]}
