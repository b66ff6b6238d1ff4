"""FoCa: forecast features as the solution of an ODE, then calibrate the forecast (arXiv 2508.16211)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from lightning_freqdiff.caching.forecast import Forecaster, ForecastState, differences
from lightning_freqdiff.caching.presets import Length
from lightning_freqdiff.caching.reuse import Stale


@dataclass(frozen=True)
class FoCa(Forecaster):
    """Forecast by an implicit two-step formula (BDF2), and correct by Heun's rule.

    With the slopes ``f₀`` and ``f₁`` of the features over the last two gaps, ``f̂ = f₀ + h (f₀ - f₁) / g`` their line
    carried on over ``h``, and ``ω = h / g`` for a last gap of ``g``, the predictor is

        F̂ = ((1 + ω)² F₀ - ω² F₁ + (1 + ω) h f̂) / (1 + 2ω),

    BDF2 for gaps of any length (4/3, -1/3 and 2/3 for even ones), and the corrector the mean of two slopes,
    ``F = F₀ + h/2 (f₀ + (F̂ - F₀) / h)``. So it is TaylorSeer of order 2 whose curvature counts the less, the longer
    the forecast, from all of it to half. The method is published without code: that slopes are divided by the true
    gap in time, and what stands for the slope at the forecast, are our reading of it.

    Args:
        preset: ``short`` (as published, tens of steps), ``long`` (1,000 steps), or ``auto``, by the number of steps.
        interval: Steps from one network call to the next, after the warm-up.
        warmup: Network calls made in a row at first.
        stale: What is forecast; published are the features.
    """

    DEFAULTS: ClassVar[dict[str, Any]] = {"interval": 3, "warmup": 8, "stale": "features"}
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {"short": {}, "long": {"interval": 20, "warmup": 1}}
    LIMITS: ClassVar[dict[str, tuple[float, float]]] = {"interval": (1, math.inf), "warmup": (1, math.inf)}
    preset: Length = "auto"
    interval: int | None = None
    warmup: int | None = None
    stale: Stale | None = None

    def learn(self, state: ForecastState, kept: Tensor, t: float) -> None:
        """Take the slope, and how it has turned."""
        state.gap = t - state.times[-1] if state.times else 1.0
        state.terms = differences(state.terms, kept, state.gap, 2)

    def weights(self, state: ForecastState, t: float) -> list[float]:
        """Return those of ``F₀``, ``f₀`` and ``(f₀ - f₁) / g`` in predictor and corrector together."""
        h = t - state.times[-1]
        share = h / state.gap
        return [1.0, h, h**2 / 2 * (1 + share) / (1 + 2 * share)][: len(state.terms)]
