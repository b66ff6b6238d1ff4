"""FreqCa: repeat the low band of the features, and forecast the high one (arXiv 2510.08669)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from lightning_freqdiff.caching.bands import require_frequencies
from lightning_freqdiff.caching.forecast import Forecaster, ForecastState, differences
from lightning_freqdiff.caching.presets import Acts, Length
from lightning_freqdiff.caching.reuse import Stale
from lightning_freqdiff.diffusion.score import Score
from lightning_freqdiff.diffusion.score_function import Trajectory

Bands = Literal["fourier", "cosine", "frequency"]
FORECAST: Acts = ("with an order above 0", lambda s: s.order > 0)


@lru_cache(maxsize=64)
def high_pass(bands: Bands, tokens: int, cutoff: float, frequencies: tuple[float, ...] | None = None) -> Tensor:
    """Return the matrix that leaves of tokens their high band alone, ``(tokens, tokens)``, float64.

    Args:
        bands: ``fourier`` and ``cosine`` take the transform along the tokens, and leave what changes faster than
            the cut-off from token to token; ``frequency`` leaves the tokens above it, where tokens are frequencies.
        tokens: Number of tokens.
        cutoff: End of the low band, as a share of the largest frequency.
        frequencies: Those that tokens stand for; as many as there are tokens, evenly, if not given.
    """
    identity = torch.eye(tokens, dtype=torch.float64)
    if bands == "fourier":
        k = torch.arange(tokens // 2 + 1)
        kept = torch.fft.rfft(identity, dim=0) * (k > cutoff * (tokens // 2)).unsqueeze(1)
        return torch.fft.irfft(kept, n=tokens, dim=0)
    k = torch.arange(tokens, dtype=torch.float64)
    if bands == "frequency":
        places = k if frequencies is None else k.new_tensor(frequencies)
        return identity * (places > cutoff * places[-1] * (1 + 1e-9))
    low = k <= cutoff * (tokens - 1)
    waves = torch.cos(math.pi / tokens * k[low].unsqueeze(1) * (k + 0.5))  # DCT-II
    waves = waves / waves.norm(dim=1, keepdim=True)
    return identity - waves.T @ waves


def hermite(x: float, order: int) -> list[float]:
    """Return ``He_n(x) / n!`` for ``n`` from 0 to the order, the probabilists' polynomials."""
    values = [1.0, x]
    for n in range(1, order):
        values.append(x * values[n] - n * values[n - 1])
    return [value / math.factorial(n) for n, value in enumerate(values[: order + 1])]


@dataclass(frozen=True)
class FreqCa(Forecaster):
    """Forecast ``F + x Δ₁ + ½ (x² - 1) Δ₂`` in the high band, ``x`` steps after the last call, and ``F`` in the low.

    ``Δ`` are backward differences over the last calls, each divided by the gap in steps. The published code scales
    the physicists' polynomials by 0.71, which is all but ``1/√2``, and so makes them the probabilists', taken here.
    That ``½ Δ₂`` is taken off for any ``x`` shifts every forecast, at ``x = 0`` too. Published bands are those of a
    transform along the tokens of an image. Here tokens are frequencies already: ``bands: frequency`` splits them.

    Args:
        preset: ``short`` (as published, tens of steps), ``long`` (1,000 steps), or ``auto``, by the number of steps.
        interval: Steps from one network call to the next, after the warm-up.
        warmup: Network calls made in a row at first.
        order: Highest difference in the high band.
        cutoff: End of the low band, as a share of the largest frequency.
        bands: ``fourier`` or ``cosine``, along the tokens, as published; or ``frequency``, the tokens themselves.
        stale: What is forecast; published is the blocks' cumulative residual.
    """

    DEFAULTS: ClassVar[dict[str, Any]] = {
        "interval": 6,
        "warmup": 3,
        "order": 2,
        "cutoff": 0.1,
        "bands": "fourier",
        "stale": "residual",
    }
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "short": {},
        "long": {"interval": 20, "warmup": 1, "order": 1, "stale": "wiener"},
    }
    ACTS: ClassVar[dict[str, Acts]] = dict.fromkeys(("cutoff", "bands"), FORECAST)
    LIMITS: ClassVar[dict[str, tuple[float, float]]] = {
        "interval": (1, math.inf),
        "warmup": (1, math.inf),
        "order": (0, 8),
        "cutoff": (0, 1),
    }
    preset: Length = "auto"
    interval: int | None = None
    warmup: int | None = None
    order: int | None = None
    cutoff: float | None = None
    bands: Bands | None = None
    stale: Stale | None = None

    def begin(self, score: Score, trajectory: Trajectory) -> ForecastState:
        """Start with no history, where there are such bands."""
        state = super().begin(score, trajectory)
        if state.settings.order and state.settings.bands == "frequency":
            state.fit = tuple(require_frequencies(score, state.settings.stale, "`policy.bands` fourier").tolist())
        return state

    def learn(self, state: ForecastState, kept: Tensor, t: float) -> None:
        """Take the differences of the high band."""
        s = state.settings
        high = high_pass(s.bands, kept.shape[1], s.cutoff, state.fit).to(kept) @ kept
        state.history = differences(state.history, high, state.skipped + 1, s.order)
        state.terms = [kept, *state.history[1:]]

    def weights(self, state: ForecastState, t: float) -> list[float]:
        """Return the Hermite polynomials of the steps since the last call."""
        return hermite(state.skipped + 1, len(state.terms) - 1)
