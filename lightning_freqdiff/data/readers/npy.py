"""NumPy's own files: `.npy`, which may stay on disk, and `.npz`."""

import tokenize
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

# What a damaged or encrypted file makes numpy and zipfile raise.
DAMAGE = (
    ValueError,
    EOFError,
    OSError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
    tokenize.TokenError,
    SyntaxError,
)
ON_DISK = 2**30
"""Size from which a `.npy` stays on disk, where nothing else is asked for."""


def read_npy(path: Path, in_memory: bool | None = None) -> np.ndarray:
    """Read a `.npy`, or map it: then its pages are read as they are needed, and belong to no one.

    Args:
        path: The file.
        in_memory: Read it whole; if not given, only where it is smaller than 1 GiB.
    """
    whole = path.stat().st_size < ON_DISK if in_memory is None else in_memory
    if whole:
        return read_npz(path, ["x"])[1]["x"]
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except DAMAGE as error:
        raise _damaged(path, error) from error


def read_npz(path: Path, wanted: Iterable[str] | None = None) -> tuple[list[str], dict[str, np.ndarray]]:
    """Return the names of all arrays in a `.npz`, and those that are wanted, or all; the array of a `.npy` is `x`."""
    if not path.is_file():
        found = "a folder" if path.is_dir() else "nothing"
        raise FileNotFoundError(f"expected a file, found {found} at {path.absolute()}; mend `data.path`")
    # Opened here, because np.load leaves a file open that turns out to be no zip archive.
    with path.open("rb") as file:
        try:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return ["x"], {"x": loaded}
            with loaded as archive:
                keys = archive.files
                return keys, {key: np.asarray(archive[key]) for key in wanted or keys if key in keys}
        except DAMAGE as error:
            raise _damaged(path, error) from error


def _damaged(path: Path, error: BaseException) -> ValueError:
    reason = " ".join(str(error).split())
    if "Object arrays" in reason or "Python objects" in reason:
        return ValueError(
            f"{path}: expected numbers, got pickled Python objects, which are not loaded because unpickling can run "
            "code; in the file of `data.path` store floats, and names as strings"
        )
    return ValueError(
        f"{path}: expected NumPy's own format, got a file that is damaged, cut short or pickled ({reason}); write it "
        "anew with np.savez or np.save, delete it if it lies in the cache, or mend `data.path`"
    )
