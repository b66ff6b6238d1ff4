"""TeaCache: skip calls while the accumulated change of the first block's input is small (arXiv 2411.19108)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from lightning_freqdiff.caching.base import Call
from lightning_freqdiff.caching.presets import Length
from lightning_freqdiff.caching.reuse import Stale
from lightning_freqdiff.caching.step_cache import WholeCallPolicy, WholeState
from lightning_freqdiff.diffusion.score import Score
from lightning_freqdiff.networks import Embedding

IDENTITY = (1.0, 0.0)


def relative_change(new: Tensor, old: Tensor) -> Tensor:
    """Return ``‖new - old‖₁ / ‖old‖₁`` of each sample, ``(B,)``; 0 for 0 / 0."""
    size = old.abs().flatten(1).sum(1)
    change = (new - old).abs().flatten(1).sum(1)
    return torch.where(change > 0, change / size.clamp(min=torch.finfo(size.dtype).tiny), 0.0)


def polynomial(coefficients: Sequence[float], x: Tensor) -> Tensor:
    """Evaluate a polynomial, highest power first, by Horner's rule; never below 0, since it bounds a change."""
    result = torch.zeros_like(x)
    for coefficient in coefficients:
        result = result * x + coefficient
    return result.clamp(min=0)


def expected_change(score: Score, coefficients: Sequence[float] | None, new: Tensor, old: Tensor) -> Tensor:
    """Return ``P(d)``, the change of the output to expect of a change of the input, ``(B,)``.

    ``P`` is the polynomial that was given, or else the calibration's, or else the identity.
    """
    fitted = score.calibration.get("teacache.polynomial")
    chosen = coefficients or (IDENTITY if fitted is None else fitted.tolist())
    return polynomial(chosen, relative_change(new, old))


@dataclass(frozen=True)
class TeaCache(WholeCallPolicy):
    """Accumulate ``A += P(d)``, ``d = ‖M_i - M_{i-1}‖₁ / ‖M_{i-1}‖₁``; skip while ``A < τ``, else call and reset.

    ``P`` turns a change of the input into one of the output. It is fitted by ``calibrate`` on the user's checkpoint;
    without that it is the identity.

    Args:
        preset: ``short`` (as published, tens of steps), ``long`` (1,000 steps), or ``auto``, by the number of steps.
        tau: Threshold of the accumulated change.
        coefficients: Polynomial, highest power first; from the calibration if not given.
        stale: What a skipped call returns; published is the residual.
    """

    DEFAULTS: ClassVar[dict[str, Any]] = {"tau": 0.25, "stale": "residual"}
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {"short": {}, "long": {"tau": 0.5}}
    LIMITS: ClassVar[dict[str, tuple[float, float]]] = {"tau": (0, math.inf)}
    preset: Length = "auto"
    tau: float | None = None
    coefficients: list[float] | None = None
    stale: Stale | None = None

    def decide(self, score: Score, embedding: Embedding, call: Call, state: WholeState) -> Tensor:
        """Add to the accumulated change."""
        now, memory = score.network.modulated(*embedding), state.memory
        if "input" not in memory:
            memory["input"], memory["sum"] = now, torch.zeros_like(state.idle)
            return torch.ones_like(state.idle, dtype=torch.bool)
        total = memory["sum"] + expected_change(score, state.settings.coefficients, now, memory["input"])
        due = total >= state.settings.tau
        memory["input"], memory["sum"] = now, torch.where(due, 0.0, total)
        return due
