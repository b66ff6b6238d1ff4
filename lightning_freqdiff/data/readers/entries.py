"""Series as GluonTS keeps them: entries with a target each, in memory or as lines of JSON, read without GluonTS."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from lightning_freqdiff.data.series.ragged import Ragged, Roles

LINES = (".json", ".jsonl", ".json.gz", ".jsonl.gz")
DYNAMIC = "feat_dynamic_real"
"""What GluonTS calls covariates at every step, known to the end of a horizon."""


def is_lines(path: Path) -> bool:
    """Say whether a file holds a series in each line."""
    return path.name.lower().endswith(LINES)


def find_lines(folder: Path) -> Path | None:
    """Return the training series of a folder of a GluonTS data set; none where it is no such folder."""
    below = [folder / "train" / f"data{suffix}" for suffix in LINES]
    return next((path for path in [*below, *(folder / f"train{suffix}" for suffix in LINES)] if path.is_file()), None)


def read_lines(path: Path, roles: Roles) -> Ragged:
    """Read a series a line: JSON objects with ``target``, and maybe ``item_id`` and ``feat_dynamic_real``."""
    return take_entries(_parsed(path), roles, str(path))


def _parsed(path: Path) -> Iterator[Mapping[str, Any]]:
    with path.open("rb") as raw, gzip.open(raw) if path.suffix == ".gz" else nullcontext(raw) as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                entry = json.loads(line)
                if not isinstance(entry, dict):
                    raise ValueError("no object")
            except ValueError as error:
                raise ValueError(
                    f"{path}: expected a JSON object with a target in each line, got a fault in line {number} "
                    f"({error}); mend the file of `data.path`"
                ) from error
            yield entry


def is_entries(values: Any) -> bool:
    """Say whether values in memory are entries of GluonTS, such as a ``ListDataset``."""
    if isinstance(values, (str, bytes, Mapping, np.ndarray)) or not hasattr(values, "__iter__"):
        return False
    first = next(iter(values), None)
    return isinstance(first, Mapping) and "target" in first


def take_entries(entries: Iterable[Mapping[str, Any]], roles: Roles, source: str) -> Ragged:
    """Lay entries out as series ``(T, M)``, with their ``feat_dynamic_real`` behind, if it is asked for.

    Raises:
        ValueError: For entries without a target or of unequal channels, and columns that there are not.
    """
    if wrong := [name for name in roles.covariates if name != DYNAMIC]:
        raise ValueError(f"{source}: expected `data.covariates` {DYNAMIC}, got {wrong[0]!r}")
    if roles.settings or roles.calendar:
        setting = roles.settings[0][0] if roles.settings else "calendar"
        raise ValueError(f"{source}: expected entries of GluonTS without `data.{setting}`, which names columns")
    series, names, own = [], [], 0
    for number, entry in enumerate(entries):
        values = _by_step(entry, "target", number, source)
        own = own or values.shape[1]
        if roles.covariates:
            beside = _by_step(entry, DYNAMIC, number, source)
            if len(beside) < len(values):
                raise ValueError(
                    f"{source}: expected {DYNAMIC} at each of {len(values)} steps of entry {number}, got "
                    f"{len(beside)}: leave `data.covariates` out"
                )
            values = np.concatenate([values, beside[: len(values)]], axis=1)
        if series and values.shape[1] != series[0].shape[1]:
            raise ValueError(
                f"{source}: expected {series[0].shape[1]} channels and covariates as of the first entry, got "
                f"{values.shape[1]} of entry {number}; mend `data.path`"
            )
        series.append(values)
        names.append(str(entry.get("item_id", number)))
    if not series:
        raise ValueError(f"{source}: expected entries with a target, got none; mend `data.path`")
    known = series[0].shape[1] - own
    channels = [f"channel {m}" for m in range(own)] if own > 1 else ["target"]
    channels += [DYNAMIC] if known == 1 else [f"{DYNAMIC} {m}" for m in range(known)]
    return Ragged(series, tuple(channels), source, names, covariates=known)


def _by_step(entry: Mapping[str, Any], name: str, number: int, source: str) -> np.ndarray:
    """Return a field ``(T,)`` or ``(C, T)`` of an entry as ``(T, C)``."""
    try:
        values = np.atleast_2d(np.asarray(entry[name], dtype=float))
    except (KeyError, ValueError, TypeError) as error:
        raise ValueError(
            f"{source}: expected numbers as {name!r} of entry {number}, got {type(error).__name__} ({error}); mend "
            "`data.path`"
        ) from error
    if values.ndim != 2:
        raise ValueError(f"{source}: expected {name!r} of one axis, or (C, T), got shape {values.shape}")
    return values.T
