"""Series from a file: NumPy arrays, or tables with one series a row."""

import tokenize
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from lightning_freqdiff.data.base import SeriesData, require_at_least
from lightning_freqdiff.data.series import Series, validate
from lightning_freqdiff.data.tables import read_csv, read_parquet

# What a damaged or encrypted file makes numpy and zipfile raise.
DAMAGE = (ValueError, EOFError, OSError, RuntimeError, zipfile.BadZipFile, zlib.error, tokenize.TokenError)


class ArrayData(SeriesData):
    """Series from a `.npz`, `.npy`, `.csv` or `.parquet` file, held in memory as float32.

    A `.npz` holds `x` of shape `(n, N, M)`, and may hold labels `y` and channel names `columns`; a `.npy`
    holds `x` alone. Without the last axis there is a single channel. A `.csv` or `.parquet` table has one
    series a row and one step a column, so a single channel too; a `.csv` may have a header.

    Args:
        path: The file.
        limit: Keep this many series, drawn with `seed`, for trials; all if not given.
        **kwargs: Settings of `SeriesData`.
    """

    def __init__(self, path: str, limit: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if limit is not None:
            require_at_least(2, limit=limit)
        self.path = path
        self.limit = limit

    def _load(self) -> Series:
        series = read(Path(self.path).expanduser())
        if self.limit is None:
            return series
        series = validate(series)  # before the choice, so that an error counts samples as the file does
        # A stream of its own: with the one of the split, which series are kept would decide where they go.
        keep = np.random.default_rng([self.seed, 1]).permutation(len(series.x))[: self.limit]
        return replace(series, x=series.x[keep], y=None if series.y is None else series.y[keep])


def read(path: Path) -> Series:
    """Read a file by its suffix; its content is yet to be validated."""
    if not path.is_file():
        found = "a folder" if path.is_dir() else "nothing"
        raise FileNotFoundError(f"expected a file, found {found} at {path.absolute()}; mend --data.path")
    suffix = path.suffix.lower()
    if suffix not in (".npz", ".npy", ".csv", ".parquet"):
        raise ValueError(
            f"{path}: expected a name ending in .npz, .npy, .csv or .parquet, got {suffix!r}; mend --data.path"
        )
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: expected series, got an empty file; write it anew or mend --data.path")
    match suffix:
        case ".csv":
            arrays = {"x": read_csv(path)}
        case ".parquet":
            arrays = {"x": read_parquet(path)}
        case _:
            arrays = _read_numpy(path)
    x = arrays["x"][..., None] if arrays["x"].ndim == 2 else arrays["x"]
    names = arrays.get("columns", [f"channel {i}" for i in range(x.shape[-1] if x.ndim else 0)])
    return Series(x, arrays.get("y"), tuple(str(name) for name in np.ravel(names)), str(path))


def _read_numpy(path: Path) -> dict[str, np.ndarray]:
    """Read `x`, and `y` and `columns` if there, from a `.npz`; or `x` from a `.npy`."""
    # Opened here, because np.load leaves a file open that turns out to be no zip archive.
    with path.open("rb") as file:
        try:
            keys, arrays = _arrays(file)
        except DAMAGE as error:
            reason = " ".join(str(error).split())
            if "Object arrays" in reason:
                raise ValueError(
                    f"{path}: expected numbers, got pickled Python objects, which are not loaded because "
                    "unpickling can run code; in the file of --data.path store floats, and names as strings"
                ) from error
            raise ValueError(
                f"{path}: expected NumPy's own format, got a file that is damaged, cut short or pickled "
                f"({reason}); write it anew with np.savez or np.save, or mend --data.path"
            ) from error
    if "x" not in arrays:
        raise ValueError(
            f"{path}: expected an array named 'x', got {', '.join(map(repr, keys)) or 'none at all'}; rename "
            "the one that holds the series, or mend --data.path"
        )
    return arrays


def _arrays(file: BinaryIO) -> tuple[list[str], dict[str, np.ndarray]]:
    """Return the names of all arrays in a file, and those arrays that are of use."""
    loaded = np.load(file, allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        return ["x"], {"x": loaded}
    with loaded as archive:
        keys = archive.files
        return keys, {key: np.asarray(archive[key]) for key in ("x", "y", "columns") if key in keys}
