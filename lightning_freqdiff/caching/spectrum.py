"""Spectrum: forecast features by a Chebyshev series in time, fitted by ridge regression (arXiv 2603.01623)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from lightning_freqdiff.caching.forecast import Forecaster, ForecastState
from lightning_freqdiff.caching.presets import Acts, Length
from lightning_freqdiff.caching.reuse import Stale


def chebyshev(x: Tensor, degree: int) -> Tensor:
    """Return ``T_0(x) ... T_degree(x)`` of points ``(n,)`` as ``(n, degree + 1)``."""
    columns = [torch.ones_like(x), x]
    while len(columns) <= degree:
        columns.append(2 * x * columns[-1] - columns[-2])
    return torch.stack(columns[: degree + 1], dim=1)


@dataclass(frozen=True)
class Spectrum(Forecaster):
    """Fit ``C = (XᵀX + λI)⁻¹ XᵀH`` to the stored calls, ``X`` Chebyshev in ``τ ∈ [-1, 1]``, and forecast ``x(τ) C``.

    After ``warmup`` network calls in a row, one is made every ``⌊w⌋`` steps, and ``w`` grows by ``growth`` at each.
    Unlike in the published code the real time grid is mapped to ``[-1, 1]`` whatever its length, the fit is in
    float64, the constant is not penalised, and the last step is computed. A ridge fit does not interpolate: asked
    again at the time of a call, it forecasts close to what was computed, and not the same.

    Args:
        preset: ``short`` (as published, tens of steps), ``long`` (1,000 steps), or ``auto``, by the number of steps.
        degree: Degree ``M`` of the series.
        ridge: Penalty ``λ``.
        history: Network calls that the fit goes back.
        warmup: Network calls made in a row at first.
        window: Steps ``w`` from one network call to the next, after the warm-up.
        growth: Added to ``w`` at each network call.
        blend: Share of the Chebyshev forecast; the rest is linear, through the last two calls.
        stale: What is forecast; published are the features.
    """

    DEFAULTS: ClassVar[dict[str, Any]] = {
        "degree": 4,
        "ridge": 0.1,
        "history": 100,
        "warmup": 5,
        "window": 2.0,
        "growth": 0.75,
        "blend": 1.0,
        "stale": "features",
    }
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "short": {},
        "long": {"window": 15.0, "growth": 0.0, "history": 8, "ridge": 1e-4},
    }
    ACTS: ClassVar[dict[str, Acts]] = dict.fromkeys(
        ("degree", "ridge", "history"), ("with a blend above 0", lambda s: s.blend > 0)
    )
    LIMITS: ClassVar[dict[str, tuple[float, float]]] = {
        "degree": (0, 16),
        "ridge": (0, math.inf),
        "history": (2, math.inf),
        "warmup": (1, math.inf),
        "window": (1, math.inf),
        "growth": (0, math.inf),
        "blend": (0, 1),
    }
    preset: Length = "auto"
    degree: int | None = None
    ridge: float | None = None
    history: int | None = None
    warmup: int | None = None
    window: float | None = None
    growth: float | None = None
    blend: float | None = None
    stale: Stale | None = None

    def is_due(self, state: ForecastState) -> bool:
        """Go by the window, once warm."""
        calls, s = len(state.times), state.settings
        if calls < s.warmup:
            return True
        return state.skipped + 1 >= math.floor(s.window + s.growth * (calls - s.warmup))

    def learn(self, state: ForecastState, kept: Tensor, t: float) -> None:
        """Fit the series anew."""
        s = state.settings
        state.history = [*state.history, kept][-s.history :]
        times = [*state.times, t][-s.history :]
        x = chebyshev(self._map(state, torch.tensor(times, dtype=torch.float64)), s.degree)
        penalty = torch.full((s.degree + 1,), float(s.ridge), dtype=torch.float64)
        penalty[0] = 0
        # With fewer calls than coefficients and no penalty the fit of least norm is taken.
        solver = torch.linalg.pinv(x.T @ x + penalty.diag(), hermitian=True) @ x.T
        stacked = torch.stack(state.history)
        state.terms = list(torch.tensordot(solver.to(stacked), stacked, dims=1).unbind())
        state.terms += [kept, kept - state.history[-2] if len(times) > 1 else torch.zeros_like(kept)]

    def weights(self, state: ForecastState, t: float) -> list[float]:
        """Return ``x(τ)`` and the two weights of the line, blended."""
        s, share = state.settings, state.settings.blend
        x = chebyshev(self._map(state, torch.tensor([t], dtype=torch.float64)), s.degree)[0]
        times = state.times
        slope = (t - times[-1]) / (times[-1] - times[-2]) if len(times) > 1 else 0.0
        return [*(share * x).tolist(), 1 - share, (1 - share) * slope]

    @staticmethod
    def _map(state: ForecastState, t: Tensor) -> Tensor:
        """Map the trajectory's times to ``[-1, 1]``."""
        return 2 * (state.start - t) / max(state.start - state.end, 1e-12) - 1
