"""AdaCorrection: blend cached and fresh features by how far they lie apart (arXiv 2602.13357)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from torch import Tensor

from lightning_freqdiff.caching.base import CachePolicy, Call, Outcome
from lightning_freqdiff.caching.presets import Length
from lightning_freqdiff.caching.reuse import Stale, restore, store
from lightning_freqdiff.caching.step_cache import run_network
from lightning_freqdiff.diffusion.score import Score
from lightning_freqdiff.diffusion.score_function import Trajectory


@dataclass
class BlendState:
    """What is blended.

    Args:
        settings: Every setting of the policy, for this trajectory.
        kept: What was kept of the last probe, blended, ``(B, K, *)``.
        features: The features of the last probe, as they were computed, ``(B, K', d)``.
        skipped: Calls since then.
    """

    settings: SimpleNamespace
    kept: Tensor | None = None
    features: Tensor | None = None
    skipped: int = 0


def offset(fresh: Tensor, past: Tensor, spread: float) -> Tensor:
    """Return ``S = Δ_t² + λ Δ_s²`` of each sample, ``(B,)``.

    Args:
        fresh: Features now, ``(B, K', d)``.
        past: Features then; ``Δ_t`` is the mean over tokens of the norm of their difference.
        spread: ``λ``; ``Δ_s`` is the mean over tokens of the deviation of a token's features.
    """
    moved = (fresh - past).norm(dim=-1).mean(1)
    apart = fresh.std(dim=-1, correction=0).mean(1)
    return moved.square() + spread * apart.square()


@dataclass(frozen=True)
class AdaCorrection(CachePolicy):
    """At a probe, keep ``w`` of what is fresh and ``1 - w`` of what was, ``w = clip(γ S, 0, 1)``; repeat it between.

    As published, every step is a probe: both are computed, and nothing is saved; ``interval: 1`` is that. And with
    ``λ = γ = 1`` and features of any size ``w`` is 1, so that nothing is blended either: it is then a clock. A probe
    knows the truth, and what is mixed in can only be worse, unless it is noise that is averaged out. The method is
    here for comparison. Scores are those of the last block's features, not of every block's, and of each sample.
    The first and the last step are not blended.

    Args:
        preset: ``short`` (tens of steps), ``long`` (1,000 steps), or ``auto``, by the number of steps.
        interval: Steps from one probe to the next.
        spread: ``λ``, how much the spread of the features counts.
        gain: ``γ``.
        stale: What is kept and blended; published are the features.
    """

    DEFAULTS: ClassVar[dict[str, Any]] = {"interval": 2, "spread": 1.0, "gain": 1.0, "stale": "features"}
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {"short": {}, "long": {"interval": 20, "stale": "wiener"}}
    LIMITS: ClassVar[dict[str, tuple[float, float]]] = {
        "interval": (1, math.inf),
        "spread": (0, math.inf),
        "gain": (0, math.inf),
    }
    preset: Length = "auto"
    interval: int | None = None
    spread: float | None = None
    gain: float | None = None
    stale: Stale | None = None

    def begin(self, score: Score, trajectory: Trajectory) -> BlendState:
        """Start with nothing cached."""
        return BlendState(self.settings_for(len(trajectory.times) // trajectory.calls_per_step))

    def evaluate(self, score: Score, z: Tensor, call: Call, state: BlendState) -> tuple[Outcome, BlendState]:
        """Probe and blend, or repeat."""
        c, s, past, error = score.coefficients(call.t), state.settings, None, None
        if state.kept is not None:
            past = restore(s.stale, score, state.kept, z, call.t, c, call.condition)
            if not call.last and state.skipped + 1 < s.interval:
                state.skipped += 1
                return Outcome.whole(past, 0.0), state
        fresh = run_network(score, z, call.t, c, call.condition)
        kept, eps = store(s.stale, score, fresh.eps, z, c, fresh.h0, fresh.features), fresh.eps
        if past is not None and state.kept is not None and state.features is not None:
            error = (fresh.eps - past).square().mean((1, 2))
            weight = (s.gain * offset(fresh.features, state.features, s.spread)).clamp(0, 1).view(-1, 1, 1)
            if not call.last:
                kept = torch.lerp(state.kept, kept, weight.to(kept))
                blend = restore(s.stale, score, kept, z, call.t, c, call.condition)
                eps = torch.where(weight < 1, blend, eps)
        state.kept, state.features, state.skipped = kept, fresh.features, 0
        return Outcome.whole(eps, 1.0, error), state
