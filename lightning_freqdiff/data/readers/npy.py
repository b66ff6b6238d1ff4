"""NumPy's own files: `.npy`, which may stay on disk, and `.npz`."""

from pathlib import Path

import numpy as np

from lightning_freqdiff.files import DAMAGE, damaged, read_arrays

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
        return read_arrays(path, ["x"])[1]["x"]
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except DAMAGE as error:
        raise damaged(path, error) from error
