"""TaylorSeer: forecast features by a Taylor series of finite differences (arXiv 2503.06923)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from lightning_freqdiff.caching.forecast import Forecaster, ForecastState, differences
from lightning_freqdiff.caching.presets import Length
from lightning_freqdiff.caching.reuse import Stale


@dataclass(frozen=True)
class TaylorSeer(Forecaster):
    """Forecast ``F(t + k) = Σ F⁽ⁿ⁾ kⁿ / n!``, computed every ``interval`` steps.

    ``F⁽ⁿ⁾`` is the finite difference of ``F⁽ⁿ⁻¹⁾`` over the last two network calls, divided by the true gap in
    time. As published the differences are one-sided, and so exact for a straight line, but not for polynomials of
    order 2 and more. Of order 0 it is naive reuse with a clock.

    Args:
        preset: ``short`` (as published, tens of steps), ``long`` (1,000 steps), or ``auto``, by the number of steps.
        interval: Steps from one network call to the next.
        order: Highest derivative.
        stale: What is forecast; published are the features.
    """

    DEFAULTS: ClassVar[dict[str, Any]] = {"interval": 4, "order": 2, "stale": "features"}
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {"short": {}, "long": {"interval": 20, "order": 1}}
    LIMITS: ClassVar[dict[str, tuple[float, float]]] = {"interval": (1, math.inf), "order": (0, 8)}
    preset: Length = "auto"
    interval: int | None = None
    order: int | None = None
    stale: Stale | None = None

    def learn(self, state: ForecastState, kept: Tensor, t: float) -> None:
        """Raise the differences by one order at most, as far as there is history."""
        gap = t - state.times[-1] if state.times else 1.0
        state.terms = differences(state.terms, kept, gap, state.settings.order)

    def weights(self, state: ForecastState, t: float) -> list[float]:
        """Return ``kⁿ / n!``."""
        k = t - state.times[-1]
        return [k**n / math.factorial(n) for n in range(len(state.terms))]
