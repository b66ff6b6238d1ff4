"""What `predict` leaves beside the samples of series of which some is known: quantiles, and a picture of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from lightning_freqdiff.files import replace_arrays
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.reporting.fans import LEVELS, fans
from lightning_freqdiff.sampling import Given

SHOWN = 6
"""Series that are drawn."""


def leave_quantiles(module: ScoreModule, asked: Given, samples: np.ndarray, folder: Path) -> dict[str, Any]:
    """Write ``quantiles.npz``, and return the picture of the first series.

    The file holds the ``levels``, the ``quantiles`` ``(levels, R, N, M)``, the values ``observed`` ``(R, N, M)``, NaN
    where they are not known, and the names of the channels as ``columns``.
    """
    observed = asked.values.numpy()
    quantiles = np.empty((len(LEVELS), *observed.shape), np.float32)
    for row in range(len(observed)):
        own = samples[row * asked.num_samples : (row + 1) * asked.num_samples]
        quantiles[:, row] = np.quantile(own, LEVELS, axis=0)
    replace_arrays(
        folder / "quantiles.npz",
        {
            "levels": np.array(LEVELS),
            "quantiles": quantiles,
            "observed": observed,
            "columns": np.array(module.channels),
        },
    )
    return {"samples": fans(observed[:SHOWN], quantiles[:, :SHOWN], module.channels)}
