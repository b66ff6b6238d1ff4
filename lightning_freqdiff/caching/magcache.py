"""MagCache: skip while the magnitude of the residual, known beforehand, drifts little (arXiv 2506.09045)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from lightning_freqdiff.caching.base import Call
from lightning_freqdiff.caching.presets import Length
from lightning_freqdiff.caching.reuse import Stale
from lightning_freqdiff.caching.step_cache import WholeCallPolicy, WholeState
from lightning_freqdiff.diffusion.score import Score
from lightning_freqdiff.networks import Embedding


@dataclass(frozen=True)
class MagCache(WholeCallPolicy):
    """Skip while ``Σ |1 - Π γ|`` over the skips in a row is below a threshold, and the skips are few.

    ``γ`` is the mean ratio of the magnitudes that the blocks' residual has at a step and at the one before. It is
    measured by ``calibrate``, at every time: published are ratios for one number of steps, which those for another
    pick from, though a longer step changes more. Without a calibration all are 1, and the method is a clock of
    ``skips``. It is the same for all samples, and says nothing of directions: where a residual turns without
    growing, as it does under fresh noise, the method does not see it.

    Args:
        preset: ``short`` (as published, tens of steps), ``long`` (1,000 steps), or ``auto``, by the number of steps.
        tau: Threshold of the accumulated error.
        skips: Most skips in a row.
        retention: Share of the steps, the first ones, that are always computed.
        stale: What a skipped call returns; published is the residual.
    """

    DEFAULTS: ClassVar[dict[str, Any]] = {"tau": 0.06, "skips": 3, "retention": 0.2, "stale": "residual"}
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "short": {},
        "long": {"tau": 0.2, "skips": 19, "retention": 0.0, "stale": "wiener"},
    }
    LIMITS: ClassVar[dict[str, tuple[float, float]]] = {
        "tau": (0, math.inf),
        "skips": (0, math.inf),
        "retention": (0, 1),
    }
    preset: Length = "auto"
    tau: float | None = None
    skips: int | None = None
    retention: float | None = None
    stale: Stale | None = None

    def decide(self, score: Score, embedding: Embedding, call: Call, state: WholeState) -> Tensor:
        """Add what holding the residual for another step makes of its magnitude."""
        s, memory, now = state.settings, state.memory, torch.full_like(state.idle, log_magnitude(score, call.time))
        zero = torch.zeros_like(state.idle)
        drift = (1 - (now - memory.get("called", now)).exp()).abs()
        total = memory.get("sum", zero) + drift
        due = (total >= s.tau) | (state.idle >= s.skips) | (call.step < round(s.retention * s.steps))
        memory["sum"] = torch.where(due, zero, total)
        memory["called"] = torch.where(due, now, memory.get("called", now))
        return due


def log_magnitude(score: Score, t: float) -> float:
    """Return the logarithm of the residual's magnitude at a time, as ``calibrate`` found it, to a constant."""
    profile = score.calibration.get("magcache.log_magnitude")
    if profile is None:
        return 0.0
    grid = np.linspace(0, 1, len(profile))
    return float(np.interp(t, grid, profile.double().cpu().numpy()))
