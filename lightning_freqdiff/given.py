"""What is given from Python, in whatever form: series, conditions, caches, settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_freqdiff.caching import CachePolicy
from lightning_freqdiff.callbacks.cache import CacheCallback
from lightning_freqdiff.callbacks.presets import read_plugged
from lightning_freqdiff.condition_table import KINDS, Table
from lightning_freqdiff.data import ArrayData, LoadedData, SeriesData
from lightning_freqdiff.data.readers.table import is_frame
from lightning_freqdiff.evaluation.arithmetic import Precision
from lightning_freqdiff.evaluation.findings import EvaluateSettings
from lightning_freqdiff.evaluation.judges import split
from lightning_freqdiff.evaluation.reading import locate
from lightning_freqdiff.evaluation.stored import fetched, local, read_stored
from lightning_freqdiff.keywords import check, make, names
from lightning_freqdiff.sampling import Conditions, Sampling

Cache = str | Path | CachePolicy | CacheCallback
"""A preset's name, a preset's path, a policy, or a callback around one."""
DATA = names(ArrayData, LoadedData, SeriesData, without=("path", "seed"))
"""Settings of series that are given as they are."""
SAMPLING, EVALUATE = names(Sampling), names(EvaluateSettings)


def series_data(series: Any, settings: Mapping[str, Any]) -> SeriesData:
    """Return series, whatever they are given as, as a data set.

    Args:
        series: A data set, or what ``ArrayData.of`` takes: an array, a data frame, a path.
        settings: Of ``ArrayData``.

    Raises:
        ValueError: For settings of the wrong type, or beside a data set that has its own.
    """
    if series is None:
        raise ValueError("expected an array, a data frame, a path or a data set, got None: set `data.path`")
    if not isinstance(series, SeriesData):
        return ArrayData.of(series, **check(ArrayData, settings))
    if settings:
        raise ValueError(f"expected `{next(iter(settings))}` to be set where the {type(series).__name__} is made")
    return series


def sampling_of(given: Mapping[str, Any]) -> Sampling:
    """Return how to sample; a table of conditions may be a data frame, a mapping of columns or a path.

    Args:
        given: Settings of ``Sampling``. Without ``num_samples``, there is a sample for each label or row.
    """
    given, known = dict(given), given.get("condition")
    if _is_table(known):
        given["condition"] = known = Table.of(known)
    if (label := given.get("label")) is not None and not isinstance(label, (int, str)):
        given["label"] = known = np.asarray(label).tolist()
    if given.get("num_samples", ...) is None:
        del given["num_samples"]
        count = len(known) if isinstance(known, list) else known.count if isinstance(known, Conditions) else None
        given |= {} if count is None else {"num_samples": count}
    return make(Sampling, given)


def conditions_of(known: Any) -> Table:
    """Return what is known, row by row, of a data frame, a mapping of columns or the path of a table.

    Raises:
        ValueError: For what is neither.
    """
    if not _is_table(known):
        raise ValueError(
            f"expected `condition` as a data frame, a mapping of columns, the path of a table or one of Conditions, "
            f"got {type(known).__name__}"
        )
    return Table.of(known)


def _is_table(known: Any) -> bool:
    """Say whether something is a table of conditions: in memory, or the path of one."""
    if isinstance(known, (str, Path)):
        return Path(known).suffix.lower() in KINDS
    return known is not None and is_frame(known) and not (isinstance(known, Mapping) and "class_path" in known)


def plugged_in(cache: Cache) -> tuple[CachePolicy | None, Precision | None]:
    """Return the policy of a cache and its precision, whatever it is given as."""
    if isinstance(cache, CacheCallback):
        return cache.policy, None
    if isinstance(cache, CachePolicy):
        return cache, None
    if isinstance(cache, (str, Path)):
        return read_plugged(cache)
    raise ValueError(
        f"expected `callbacks` as the name or path of a preset, a CachePolicy or a CacheCallback, got {cache!r}"
    )


def evaluate_settings(given: Mapping[str, Any]) -> EvaluateSettings:
    """Return what is measured; metrics may be named in one string."""
    return make(EvaluateSettings, {**given, "metrics": split(given.get("metrics", "default"))})


def every(series: Any, settings: Mapping[str, Any], differ: bool = True) -> tuple[Tensor, tuple[str, ...]]:
    """Return all series, or the training part of a data set, ``(n, N, M)``, and the names of the channels."""
    if isinstance(series, SeriesData):
        return series.reference_series(), series.channels
    if isinstance(series, (str, Path)):
        path = local(str(series), "data.path")
        if not settings and (stored := read_stored(path, "data.path")) is not None:
            return torch.from_numpy(stored.x), stored.channels
        with fetched(path, "data.path") as file:
            return _loaded(locate(file, "data.path"), settings, differ)
    return _loaded(series, settings, differ)


def _loaded(series: Any, settings: Mapping[str, Any], differ: bool) -> tuple[Tensor, tuple[str, ...]]:
    """Return all series of what ``ArrayData.of`` takes."""
    read = ArrayData.of(series, **check(ArrayData, settings)).all_series(differ)
    x = read.x if read.rows is None else read.x[read.rows]
    return torch.as_tensor(x).float(), read.channels
