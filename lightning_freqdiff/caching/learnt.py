"""What forecasters have from ``calibrate``: how features go together along trajectories."""

from __future__ import annotations

from torch import Tensor

from lightning_freqdiff.diffusion.score import Score


def require_learnt(score: Score, name: str, method: str) -> Tensor:
    """Return what ``calibrate`` learnt, by its name, for a method that is nothing without.

    Raises:
        ValueError: Where the checkpoint was not calibrated, or by a version that did not know the method.
    """
    found = score.calibration.get(name)
    if found is None:
        raise ValueError(
            f"expected a calibration of this checkpoint that {method} takes its {name} from, found none: run "
            "calibrate on the checkpoint first, and leave its file beside it"
        )
    return found
