"""What a callback may have a say in while samples are drawn. The module asks; nobody writes into it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule

from lightning_freqdiff.diffusion import ScoreFunction
from lightning_freqdiff.sampling import Sampling, WorkUnit


class SamplingCallback(Callback):
    """A Lightning callback that takes part in sampling. Each method may be left as it is."""

    def score_function(self) -> ScoreFunction | None:
        """Return what sampling is to ask in place of the model's own score, a cache for instance."""
        return None

    def remaining(self, sampling: Sampling) -> Sequence[WorkUnit] | None:
        """Return the units that are still to be drawn, the same ones on every rank; ``None`` for all."""
        return None

    def turn(self, unit: WorkUnit) -> WorkUnit:
        """Return what to draw in the turn of a unit: another, or an empty one, if it is drawn elsewhere."""
        return unit

    def on_sampling_step(self, step: int) -> None:
        """Be told that a solver step was queued."""

    def identity(self, sampling: Sampling) -> dict[str, Any]:
        """Return the settings that change the samples, as plain values; they belong to the identity of a run."""
        return {}

    def report(self) -> dict[str, Any]:
        """Return what was measured during the run, as plain values."""
        return {}

    def state(self) -> dict[str, np.ndarray]:
        """Return what was measured since the run's start; kept with every unit, in case the run is killed."""
        return {}

    def take_up(self, module: LightningModule, earlier: list[dict[str, np.ndarray]]) -> None:
        """Be told, before anything is drawn, what :meth:`state` was at the end of earlier starts of the same run."""
