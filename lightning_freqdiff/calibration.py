"""What was fitted to a checkpoint for its caches, in a file beside it.

| name | for | what |
|---|---|---|
| ``teacache.polynomial`` | TeaCache | coefficients, highest power first, ``(5,)`` |
| ``fastcache.weight.i``, ``fastcache.bias.i`` | FastCache | linear map of block ``i``, ``(d, d)`` and ``(d,)`` |
| ``wiener.rate`` | Wiener | damage of a stretch by time from 0 to 1, ``(n,)``; see ``caching/damage.py`` |

The file holds plain arrays, and the hash of the weights that they belong to.
"""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lightning_freqdiff.files import replace_arrays

WEIGHTS = "weights"


def calibration_path(checkpoint: str | Path) -> Path:
    """Return where the calibration of a checkpoint lies: ``best.ckpt`` has ``best.calibration.npz``."""
    return Path(checkpoint).with_suffix(".calibration.npz")


def write_calibration(path: Path, fitted: dict[str, Tensor], weights: str) -> None:
    """Write what was fitted in one move, so that a reader never meets half of it."""
    try:
        arrays = {name: value.cpu().numpy() for name, value in fitted.items()}
        replace_arrays(path, {**arrays, WEIGHTS: np.array(weights)})
    except OSError as error:
        raise OSError(f"cannot write the calibration {path} ({error.strerror}): set `output`") from error


def read_calibration(path: Path, weights: str) -> dict[str, Tensor]:
    """Read what was fitted; nothing, with a warning, where the file is damaged or belongs to other weights.

    Args:
        path: The file; nothing is returned where there is none.
        weights: Hash of the weights in use.
    """
    if not path.is_file():
        return {}
    try:
        # Opened here, because np.load leaves a file open that turns out to be no zip archive.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile):
        warnings.warn(f"{path} cannot be read and is left out: run calibrate again", stacklevel=2)
        return {}
    if str(arrays.pop(WEIGHTS, "")) != weights:
        warnings.warn(f"{path} was fitted to other weights and is left out: run calibrate again", stacklevel=2)
        return {}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}
