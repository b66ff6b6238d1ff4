"""SpectralCache: TeaCache with a threshold by time, a bound on skips, and one bound a band (arXiv 2603.05315)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from lightning_freqdiff.caching.base import Call
from lightning_freqdiff.caching.presets import Length
from lightning_freqdiff.caching.reuse import Stale
from lightning_freqdiff.caching.step_cache import WholeCallPolicy, WholeState
from lightning_freqdiff.caching.teacache import relative_change
from lightning_freqdiff.diffusion.score import Score
from lightning_freqdiff.networks import Embedding


@dataclass(frozen=True)
class SpectralCache(WholeCallPolicy):
    """Skip while the accumulated change is below ``τ_eff``, in each band, and not too often in a row.

    - TADS: ``τ_eff = τ s``, ``s = s_min + (s_max - s_min)(1 - cos 2πi/T) / 2``, strict at both ends.
    - CEB: at most ``c_max`` skips in a row.
    - FDC: the low band's change must stay below ``τ_eff γ_low`` and the high band's below ``τ_eff γ_high``, in
      place of one bound for both.

    Args:
        preset: ``short`` (as published, tens of steps), ``long`` (1,000 steps), or ``auto``, by the number of steps.
        tau: Threshold of the accumulated change.
        tads: Let the threshold follow the step.
        ceb: Bound the skips in a row.
        fdc: Bound the two bands apart.
        s_min: Factor of the threshold at both ends.
        s_max: Factor of the threshold half-way.
        c_max: Most skips in a row.
        gamma_low: Factor of the threshold for the low band.
        gamma_high: Factor of the threshold for the high band.
        ratio: Share of the low band.
        bands: ``channel`` splits the features, as published; ``frequency`` splits the tokens, which are frequencies.
        stale: What a skipped call returns; published is the residual.
    """

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "short": {
            "tau": 0.6,
            "tads": True,
            "ceb": True,
            "fdc": True,
            "s_min": 0.5,
            "s_max": 1.5,
            "c_max": 2,
            "gamma_low": 0.8,
            "gamma_high": 1.5,
            "ratio": 0.5,
            "bands": "channel",
            "stale": "residual",
        },
        "long": {"tau": 0.5, "c_max": 1000},
    }
    LIMITS: ClassVar[dict[str, tuple[float, float]]] = {
        "tau": (0, math.inf),
        "s_min": (0, math.inf),
        "s_max": (0, math.inf),
        "c_max": (0, math.inf),
        "gamma_low": (0, math.inf),
        "gamma_high": (0, math.inf),
        "ratio": (0, 1),
    }
    preset: Length = "auto"
    tau: float | None = None
    tads: bool | None = None
    ceb: bool | None = None
    fdc: bool | None = None
    s_min: float | None = None
    s_max: float | None = None
    c_max: int | None = None
    gamma_low: float | None = None
    gamma_high: float | None = None
    ratio: float | None = None
    bands: Literal["channel", "frequency"] | None = None
    stale: Stale | None = None

    def decide(self, score: Score, embedding: Embedding, call: Call, state: WholeState) -> Tensor:
        """Add to the accumulated changes of the bands."""
        now, memory, s = score.network.modulated(*embedding), state.memory, state.settings
        if "input" not in memory:
            memory["input"], memory["sums"] = now, torch.zeros(len(now), 3, device=now.device)
            return torch.ones_like(state.idle, dtype=torch.bool)
        before = memory["input"]
        axis = 2 if s.bands == "channel" else 1
        cut = min(max(1, round(s.ratio * now.shape[axis])), now.shape[axis] - 1)
        parts = [(now, before)]
        parts += zip(now.tensor_split([cut], axis), before.tensor_split([cut], axis), strict=True)
        sums = memory["sums"] + torch.stack([relative_change(*part) for part in parts], dim=1)
        tau = s.tau * self._factor(s, call.step)
        by_band = (sums[:, 1] >= tau * s.gamma_low) | (sums[:, 2] >= tau * s.gamma_high)
        due = by_band if s.fdc else sums[:, 0] >= tau
        if s.ceb:
            due = due | (state.idle >= s.c_max)
        memory["input"], memory["sums"] = now, torch.where(due.unsqueeze(1), 0.0, sums)
        return due

    @staticmethod
    def _factor(s: Any, step: int) -> float:
        if not s.tads:
            return 1.0
        return s.s_min + (s.s_max - s.s_min) * (1 - math.cos(2 * math.pi * step / s.steps)) / 2
