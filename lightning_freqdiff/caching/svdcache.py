"""SVD-Cache: forecast the features' principal subspace, and repeat the rest (arXiv 2601.07396)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from lightning_freqdiff.caching.forecast import Forecaster, ForecastState
from lightning_freqdiff.caching.learnt import require_learnt
from lightning_freqdiff.caching.presets import Length
from lightning_freqdiff.caching.reuse import Stale
from lightning_freqdiff.diffusion.score import Score
from lightning_freqdiff.diffusion.score_function import Trajectory


def principal(moments: Tensor, energy: float) -> Tensor:
    """Return the projection to as few directions as hold a share of the energy, ``(d, d)``, float64.

    Args:
        moments: Second moments ``Σ FᵀF`` of features, ``(d, d)``: its eigenvectors are the right singular vectors
            of all features, one below the other, and its eigenvalues their singular values squared.
        energy: The share, of the sum of squares.
    """
    squares, directions = torch.linalg.eigh(moments.double().cpu())
    squares, directions = squares.flip(0).clamp(min=0), directions.flip(1)
    before = (squares.cumsum(0) - squares) / squares.sum().clamp(min=1e-300)
    chosen = directions[:, before < energy]
    return chosen @ chosen.T


@dataclass(frozen=True)
class SVDCache(Forecaster):
    """Forecast ``F₀ + h m V Vᵀ``, ``m`` the moving average of the slopes, in the features' leading directions ``V``.

    ``V`` is learnt by ``calibrate``; as few directions are taken as hold ``energy``. As published, coefficients are
    ``U = F V σ⁻¹`` and go back by ``σ Vᵀ``, which cancels, the average being linear. What is averaged is our reading:
    slopes between calls, ``m ← decay · m + (1 - decay) · slope``.

    Args:
        preset: ``short`` (as published, tens of steps), ``long`` (1,000 steps), or ``auto``, by the number of steps.
        interval: Steps from one network call to the next, after the warm-up.
        warmup: Network calls made in a row at first.
        energy: Share of the sum of squares that the principal subspace holds.
        decay: Share of what was there before in the moving average.
        stale: What is forecast; published are the features.
    """

    DEFAULTS: ClassVar[dict[str, Any]] = {
        "interval": 5,
        "warmup": 3,
        "energy": 0.85,
        "decay": 0.9,
        "stale": "features",
    }
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {"short": {}, "long": {"interval": 20, "warmup": 1}}
    LIMITS: ClassVar[dict[str, tuple[float, float]]] = {
        "interval": (1, math.inf),
        "warmup": (1, math.inf),
        "energy": (0, 1),
        "decay": (0, 1),
    }
    preset: Length = "auto"
    interval: int | None = None
    warmup: int | None = None
    energy: float | None = None
    decay: float | None = None
    stale: Stale | None = None

    def begin(self, score: Score, trajectory: Trajectory) -> ForecastState:
        """Start with no history, in the directions that were learnt."""
        state = super().begin(score, trajectory)
        moments = require_learnt(score, f"moments.{state.settings.stale}", "SVDCache")
        state.fit = principal(moments, state.settings.energy)
        return state

    def learn(self, state: ForecastState, kept: Tensor, t: float) -> None:
        """Take the slope of the principal part into the average."""
        decay, terms = state.settings.decay, state.terms
        if terms:
            slope = ((kept - terms[0]) / (t - state.times[-1])) @ state.fit.to(kept)
            terms = [kept, slope if len(terms) < 2 else torch.lerp(slope, terms[1], decay)]
        state.terms = terms or [kept]

    def weights(self, state: ForecastState, t: float) -> list[float]:
        """Go on along the average slope."""
        return [1.0, t - state.times[-1]][: len(state.terms)]
