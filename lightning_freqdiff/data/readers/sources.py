"""Where series come from: a file, a folder, or memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lightning_freqdiff.data.readers.entries import find_lines, is_entries, is_lines, read_lines, take_entries
from lightning_freqdiff.data.readers.folder import read_folder
from lightning_freqdiff.data.readers.layout import check_named, complete, lay_out
from lightning_freqdiff.data.readers.npy import read_npy
from lightning_freqdiff.data.readers.table import (
    csv_columns,
    csv_header,
    frame_columns,
    is_frame,
    parquet_columns,
    read_uneven,
    read_wide,
)
from lightning_freqdiff.data.series.ragged import Ragged, Roles
from lightning_freqdiff.files import read_arrays

SUFFIXES = (".npz", ".npy", ".csv", ".parquet")
GIVEN = "the values given"


@dataclass(frozen=True)
class Reader:
    """Reads series, whatever holds them.

    Attributes:
        roles: Columns or arrays that hold no values.
        long: Read long series, to cut windows from.
        gaps: Read empty cells of a table as NaN.
        uneven: Read rows of different lengths.
        in_memory: Read a `.npy` whole, or map it; if not given, by its size.
    """

    roles: Roles
    long: bool = False
    gaps: bool = False
    uneven: bool = False
    in_memory: bool | None = None

    def read(self, path: Path) -> Ragged:
        """Read a file by its suffix, or a folder."""
        if path.is_dir():
            lines = find_lines(path)
            return read_folder(path, self.roles, self.gaps) if lines is None else read_lines(lines, self.roles)
        if path.is_file() and is_lines(path):
            return read_lines(path, self.roles)
        match check_file(path):
            case ".npz":
                wanted = ["x", "series", "columns", "y", *self.roles.per_series, *self.roles.covariates]
                return self._from_arrays(*read_arrays(path, wanted), str(path))
            case ".npy":
                return self._from_arrays(["x"], {"x": read_npy(path, self.in_memory)}, str(path))
            case ".parquet":
                return lay_out(parquet_columns(path), self.roles, self.long, str(path))
            case _:
                return self._read_csv(path)

    def _read_csv(self, path: Path) -> Ragged:
        names = csv_header(path)
        roles = complete(self.roles, names or ())
        if roles.settings and names is None:
            setting, name = roles.settings[0]
            raise ValueError(
                f"{path}: expected a column {name!r}, got a table without names; write a header, or leave "
                f"`data.{setting}` out"
            )
        if roles.settings or self.long:
            check_named(roles, names or [], str(path))
            frame = csv_columns(path, [name for _, name in roles.settings], self.gaps)
            return lay_out(frame, roles, self.long, str(path))
        if self.gaps or self.uneven:
            return Ragged(read_uneven(path, trim=self.uneven), ("channel 0",), str(path))
        return Ragged(read_wide(path)[..., None], ("channel 0",), str(path))

    def take(self, values: Any) -> Ragged:
        """Take values in memory for what they are."""
        if isinstance(values, Mapping) and not is_table(values):
            arrays = {key: _numpy(value) for key, value in values.items()}
            return self._from_arrays(list(arrays), arrays, GIVEN)
        if is_entries(values):
            return take_entries(values, self.roles, GIVEN)
        if is_table(values):
            return lay_out(frame_columns(values, GIVEN), self.roles, self.long, GIVEN)
        if isinstance(values, Sequence):
            arrays = [_numpy(one) for one in values]
            series = [one[:, None] if one.ndim == 1 else one for one in arrays]
            wrong = [one.shape for one in series if one.ndim != 2 or one.shape[1] != series[0].shape[-1]]
            if wrong or not series:
                raise ValueError(f"{GIVEN}: expected arrays (steps, channels) of the same channels, got {wrong[:1]}")
            return Ragged(series, tuple(f"channel {i}" for i in range(series[0].shape[1])), GIVEN)
        return self._from_arrays(["x"], {"x": _numpy(values)}, GIVEN)

    def _from_arrays(self, keys: list[str], arrays: dict[str, np.ndarray], source: str) -> Ragged:
        """Find the series among arrays by name; two axes are `(L, M)` if long series are read, else `(n, N)`.

        With a single name in `columns`, two axes are always `(n, N)`.
        """
        name = "series" if self.long and "series" in arrays else "x"
        if name not in arrays:
            also = "set `data.window` to cut windows from 'series', or " if "series" in arrays else ""
            raise ValueError(
                f"{source}: expected an array named 'x', got {', '.join(map(repr, keys)) or 'none at all'}; "
                f"{also}rename the one that holds the series, or mend `data.path`"
            )
        for setting, column in (("id", self.roles.id), ("time", self.roles.time)):
            if column is not None:
                raise ValueError(
                    f"{source}: expected a table with a column {column!r}, got arrays; leave `data.{setting}` out"
                )
        x = arrays[name]
        if self.long and x.ndim in (1, 2) and not (x.ndim == 2 and arrays.get("columns", x).size == 1):
            x = x.reshape(1, len(x), -1)
        elif x.ndim == 2:
            x = x[..., None]
        if "columns" in arrays:
            names = [str(column) for column in np.ravel(arrays["columns"])]
        else:
            names = [f"channel {i}" for i in range(x.shape[-1] if x.ndim else 0)]
        labels = self._labels_among(arrays, keys, source)
        x, known = self._beside(x, arrays, keys, source)
        return Ragged(x, (*names, *known), source, (), covariates=len(known), **labels)

    def _beside(
        self, x: np.ndarray, arrays: dict[str, np.ndarray], keys: list[str], source: str
    ) -> tuple[np.ndarray, list[str]]:
        """Put arrays of covariates, `(n, N)` or `(n, N, C)`, behind the channels, and return their names."""
        if self.roles.calendar:
            raise ValueError(f"{source}: expected a table with time stamps, got arrays; leave `data.calendar` out")
        parts, names = [x], list[str]()
        for name in self.roles.covariates:
            self._expect(name, "covariates", arrays, keys, source)
            known = arrays[name]
            if len(x) == 1 and known.shape[:1] == x.shape[1:2]:  # of a single long series
                known = known[None]
            if known.shape[:2] != x.shape[:2] or known.ndim not in (2, 3):
                raise ValueError(
                    f"{source}: expected a value of {name!r} at each of {x.shape[0]} × {x.shape[1]} steps, got shape "
                    f"{arrays[name].shape}; mend it, or leave it out of `data.covariates`"
                )
            known = known.reshape(*x.shape[:2], -1)
            parts.append(known)
            count = known.shape[-1]
            names += [name] if count == 1 else [f"{name} {i}" for i in range(count)]
        return (np.concatenate(parts, axis=-1) if names else x), names

    def _expect(self, name: str, setting: str, arrays: dict[str, np.ndarray], keys: list[str], source: str) -> None:
        if name not in arrays:
            raise ValueError(
                f"{source}: expected an array named {name!r}, got {', '.join(map(repr, keys))}; set "
                f"`data.{setting}`, or leave it out"
            )

    def _labels_among(self, arrays: dict[str, np.ndarray], keys: list[str], source: str) -> dict[str, Any]:
        """Return labels, groups and parts, where they are named; `y` needs no name."""
        for name in self.roles.per_series:
            self._expect(name, next(s for s, n in self.roles.settings if n == name), arrays, keys, source)
        labels = self.roles.fields(arrays)
        # Of a file with both, `y` is that of `x`, not of the long series.
        if "y" in arrays and "y" not in labels and not (self.long and "series" in arrays):
            labels["y"] = arrays["y"]
        return labels


def is_table(values: Any) -> bool:
    """Say whether values in memory are columns of a table, and not arrays of series."""
    return is_frame(values) and not (isinstance(values, Mapping) and any(np.ndim(v) > 1 for v in values.values()))


def check_file(path: Path) -> str:
    """Return the suffix of a file that can be read, in small letters."""
    if not path.is_file():
        raise FileNotFoundError(f"expected a file or folder, found nothing at {path.absolute()}; mend `data.path`")
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(
            f"{path}: expected a name ending in .npz, .npy, .csv or .parquet (or .jsonl), got {suffix!r}; mend "
            "`data.path`"
        )
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: expected series, got an empty file; write it anew or mend `data.path`")
    return suffix


def _numpy(values: Any) -> np.ndarray:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        values = values.float() if values.dtype == torch.bfloat16 else values
    return np.asarray(values)
