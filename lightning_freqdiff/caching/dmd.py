"""Dynamic mode decomposition: forecast features as a sum of exponentials (Schmid 2010)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from lightning_freqdiff.caching.forecast import Forecaster, ForecastState, differences
from lightning_freqdiff.caching.presets import Length
from lightning_freqdiff.caching.reuse import Stale

LEAST = 4
"""Calls that a fit takes, at least: an oscillation is two modes, and a mode two numbers."""
NOISE = 1e-4
"""Directions of less than this share of the largest singular value are left out."""


class Modes(NamedTuple):
    """Modes of a sample's features, as sums of the calls' features but the first, and how they go on.

    Attributes:
        mixing: The modes, ``(B, n, r)``.
        eigenvalues: Their factors from call to call, ``(B, r)``.
        amplitudes: What there is of each at the last call, ``(B, r)``.
    """

    mixing: Tensor
    eigenvalues: Tensor
    amplitudes: Tensor


def modes(history: list[Tensor], ridge: float) -> Modes:
    """Fit ``Y_{i+1} = A Y_i`` to each sample's calls, evenly spaced, and return the modes of ``A``.

    All of it is in products of the calls' features with one another, so that nothing larger is decomposed.

    Args:
        history: Features at the calls, oldest first, each ``(B, *)``.
        ridge: Added to the singular values that are divided by.
    """
    y = torch.stack([x.flatten(1).double() for x in history], dim=1)
    gram = (y @ y.mT).cpu()
    gram = torch.where(gram.isfinite().all((1, 2), keepdim=True), gram, 0.0)  # and no modes
    count = gram.shape[1] - 1
    squares, v = torch.linalg.eigh(gram[:, :-1, :-1])
    singular = squares.clamp(min=0).sqrt()
    kept = singular > NOISE * singular[:, -1:]
    inverse = torch.where(kept, 1 / (singular + ridge), 0.0)
    # Over U = Y V / S, whose rows S⁻¹ Vᵀ Yᵀ are exact without the ridge.
    rows = torch.where(kept, 1 / torch.where(kept, singular, 1.0), 0.0).unsqueeze(-1) * v.mT
    reduced = rows @ gram[:, :-1, 1:] @ (v * inverse.unsqueeze(1))
    eigenvalues, w = torch.linalg.eig(reduced)
    mixing = (v * inverse.unsqueeze(1)).to(w) @ w
    weight = gram[:, 1:, 1:].to(w)
    last = torch.zeros(count, dtype=w.dtype)
    last[-1] = 1
    normal, right = mixing.mH @ weight @ mixing, mixing.mH @ weight @ last
    amplitudes = (torch.linalg.pinv(normal, rtol=1e-12, hermitian=True) @ right.unsqueeze(-1)).squeeze(-1)
    return Modes(mixing, eigenvalues, amplitudes)


@dataclass(frozen=True)
class DMD(Forecaster):
    """Forecast ``Re Φ λᵏ b``, ``k`` intervals after the last call, each sample with modes ``Φ`` and ``λ`` of its own.

    They are those of the linear map that takes the features from one call to the next, fitted to the last calls; a
    line through the last two until there are four. As in cache-dit, where the method comes from, calls count as even
    in steps, whatever the times. Where there are no modes, or no numbers, the last features are
    held. Fresh noise at every step makes
    modes of its own; along SDEs the method is a poor choice.

    Args:
        preset: ``short`` (as published, tens of steps), ``long`` (1,000 steps), or ``auto``, by the number of steps.
        interval: Steps from one network call to the next.
        history: Network calls that a fit goes back.
        ridge: Added to the singular values that are divided by.
        stale: What is forecast; published are the features.
    """

    DEFAULTS: ClassVar[dict[str, Any]] = {"interval": 4, "history": 6, "ridge": 1e-8, "stale": "features"}
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {"short": {}, "long": {"interval": 20}}
    LIMITS: ClassVar[dict[str, tuple[float, float]]] = {
        "interval": (1, math.inf),
        "history": (LEAST, math.inf),
        "ridge": (0, math.inf),
    }
    preset: Length = "auto"
    interval: int | None = None
    history: int | None = None
    ridge: float | None = None
    stale: Stale | None = None

    def learn(self, state: ForecastState, kept: Tensor, t: float) -> None:
        """Fit anew to the last calls."""
        s = state.settings
        state.history = [*state.history, kept][-s.history :]
        if len(state.history) < LEAST:
            state.terms = differences(state.terms, kept, state.skipped + 1, 1)
        else:
            state.terms, state.fit = state.history[1:], modes(state.history, s.ridge)

    def weights(self, state: ForecastState, t: float) -> Sequence[float | Tensor]:
        """Return the share of each call's features, for every sample."""
        x = state.skipped + 1
        if state.fit is None:
            return [1.0, float(x)][: len(state.terms)]
        mixing, eigenvalues, amplitudes = state.fit
        factors = eigenvalues.pow(x / state.settings.interval) * amplitudes
        shares = (mixing @ factors.unsqueeze(-1)).squeeze(-1).real
        last = torch.zeros_like(shares)
        last[:, -1] = 1
        fitted = shares.isfinite().all(1, keepdim=True) & shares.any(1, keepdim=True)
        shares = torch.where(fitted, shares, last).to(state.terms[0])
        return list(shares.view(len(shares), -1, 1, 1).unbind(1))
