"""What a callback may have a say in while samples are drawn. The module asks; nobody writes into it."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback

from lightning_freqdiff.diffusion import ScoreFunction
from lightning_freqdiff.sampling import Sampling


class SamplingCallback(Callback):
    """A Lightning callback that takes part in sampling. Each method may be left as it is."""

    def score_function(self) -> ScoreFunction | None:
        """Return what sampling is to ask in place of the model's own score, a cache for instance."""
        return None

    def remaining(self, sampling: Sampling) -> list[tuple[int, int]] | None:
        """Return the ranges of samples ``[start, stop)`` that are still to be drawn; ``None`` for all."""
        return None

    def on_sampling_step(self, step: int) -> None:
        """Be told that a solver step was queued."""

    def identity(self, sampling: Sampling) -> dict[str, Any]:
        """Return the settings that change the samples, as plain values; they belong to the identity of a run."""
        return {}

    def report(self) -> dict[str, Any]:
        """Return what was measured during the run, as plain values."""
        return {}
