"""PrediT: forecast features by linear multistep formulas, as far as their change allows (arXiv 2602.18093)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from lightning_freqdiff.caching.base import Call
from lightning_freqdiff.caching.gather import set_rows, take_rows
from lightning_freqdiff.caching.presets import Length
from lightning_freqdiff.caching.reuse import Stale
from lightning_freqdiff.caching.step_cache import WholeCallPolicy, WholeState
from lightning_freqdiff.caching.teacache import relative_change
from lightning_freqdiff.diffusion.score import Score
from lightning_freqdiff.networks import Embedding


@dataclass(frozen=True)
class PrediT(WholeCallPolicy):
    """Forecast by Adams and Bashforth, correct by Adams and Moulton where change is fast, skip as change allows.

    With the slopes ``f₀`` and ``f₁`` over the last two gaps between a sample's own calls, of which ``g`` is the last,

        F̂ = F₀ + h ((1 + h / 2g) f₀ - h / 2g f₁),    F = F₀ + h/2 (f₀ + f̂),    f̂ = (F̂ - F₀) / h,

    the predictor for gaps of any length, and the corrector, which halves the bend, where ``F̂`` has gone from ``F₀``
    by more than ``correct``. After features have changed by ``δ`` a step, ``‖F₀ - F₁‖₁ = n δ ‖F₁‖₁`` over ``n``, as
    many calls are skipped as keep the change to come within ``tau``, and no more than ``2 n``, so that no slope
    between neighbours is carried far. The paper's coefficients and rules are not public: all of these are
    our reading. Everything is decided per sample.

    Args:
        preset: ``short`` (tens of steps), ``long`` (1,000 steps), or ``auto``, by the number of steps.
        tau: Relative change of the features that is forecast at most.
        skips: Most skips in a row.
        correct: Relative change from which on the corrector acts.
        warmup: Network calls made in a row at first.
        stale: What is forecast; published is the output.
    """

    DEFAULTS: ClassVar[dict[str, Any]] = {"tau": 0.5, "skips": 4, "correct": 0.2, "warmup": 3, "stale": "output"}
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {"short": {}, "long": {"skips": 29, "stale": "wiener"}}
    LIMITS: ClassVar[dict[str, tuple[float, float]]] = {
        "tau": (0, math.inf),
        "skips": (0, math.inf),
        "correct": (0, math.inf),
        "warmup": (1, math.inf),
    }
    preset: Length = "auto"
    tau: float | None = None
    skips: int | None = None
    correct: float | None = None
    warmup: int | None = None
    stale: Stale | None = None

    def decide(self, score: Score, embedding: Embedding, call: Call, state: WholeState) -> Tensor:
        """Go by what the last call said."""
        due = torch.ones_like(state.idle, dtype=torch.bool)
        return state.idle >= state.memory["skips"] if "skips" in state.memory else due

    def note(self, call: Call, kept: Tensor, rows: Tensor | None, state: WholeState) -> None:
        """Take slope and bend of the samples that were called, and say how many calls to skip."""
        s, memory, steps = state.settings, state.memory, take_rows(state.idle, rows) + 1
        past = take_rows(state.kept, rows) if state.kept.numel() else kept
        if not memory:
            zero, steps = torch.zeros_like(state.idle), steps * s.skips
            memory.update(slope=torch.zeros_like(kept), bend=torch.zeros_like(kept), calls=zero, skips=zero)
            memory["time"] = torch.full_like(zero, call.time, dtype=torch.float64)
        gap, calls = call.time - take_rows(memory["time"], rows), take_rows(memory["calls"], rows) + 1
        slope = _over(kept - past, gap)
        bend = torch.where((calls > 2).view(-1, 1, 1), _over(slope - take_rows(memory["slope"], rows), gap), 0.0)
        change = relative_change(kept, past)
        allowed = torch.floor(s.tau * steps / change.clamp(min=torch.finfo(change.dtype).tiny))
        allowed = torch.minimum(allowed, 2 * steps).clamp(max=s.skips)
        found = {"slope": slope, "bend": bend, "calls": calls, "time": torch.full_like(gap, call.time)}
        found["skips"] = torch.where(calls < s.warmup, 0.0, allowed)
        memory.update({name: set_rows(memory[name], rows, value) for name, value in found.items()})

    def forecast(self, call: Call, state: WholeState) -> Tensor:
        """Carry slope and bend on from each sample's last call."""
        memory = state.memory
        h = (call.time - memory["time"]).to(state.kept).view(-1, 1, 1)
        line, bend = h * memory["slope"], h**2 / 2 * memory["bend"]
        gone = relative_change(state.kept + line + bend, state.kept)
        share = torch.where(gone > state.settings.correct, 0.5, 1.0).to(state.kept).view(-1, 1, 1)
        return state.kept + line + share * bend


def _over(x: Tensor, gap: Tensor) -> Tensor:
    """Divide ``(B, K, *)`` by gaps in time ``(B,)``; 0 for calls at one time."""
    gap = gap.to(x).view(-1, 1, 1)
    return torch.where(gap == 0, 0.0, x / torch.where(gap == 0, 1.0, gap))
