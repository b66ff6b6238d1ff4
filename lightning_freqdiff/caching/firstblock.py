"""First-Block Cache: run one block, and the rest only where its residual has changed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
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
class FirstBlock(WholeCallPolicy):
    """Skip while ``mean|r - r_prev| / mean|r_prev| < τ`` for the residual ``r`` of the first block.

    ``r_prev`` is that of the last network call. The method comes from image models and has no paper. The first
    block is run again by a call that is due, so that the samples at ``tau: 0`` are those of no cache, bit for bit.

    Args:
        preset: ``short`` (as published, tens of steps), ``long`` (1,000 steps), or ``auto``, by the number of steps.
        tau: Threshold of the relative change.
        stale: What a skipped call returns; published is the residual.
    """

    DEFAULTS: ClassVar[dict[str, Any]] = {"tau": 0.12, "stale": "residual"}
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {"short": {}, "long": {"tau": 0.2}}
    LIMITS: ClassVar[dict[str, tuple[float, float]]] = {"tau": (0, math.inf)}
    preset: Length = "auto"
    tau: float | None = None
    stale: Stale | None = None

    def decide(self, score: Score, embedding: Embedding, call: Call, state: WholeState) -> Tensor:
        """Run the first block, and compare its residual."""
        network, h0 = score.network, embedding.features
        state.memory["now"] = network.in_chunks(partial(network.block, 0), *embedding) - h0
        if "residual" not in state.memory:
            return torch.ones_like(state.idle, dtype=torch.bool)
        return relative_change(state.memory["now"], state.memory["residual"]) >= state.settings.tau

    def note(self, call: Call, kept: Tensor, rows: Tensor | None, state: WholeState) -> None:
        """Compare with this call from now on."""
        now = state.memory["now"]
        state.memory["residual"] = (
            set_rows(state.memory["residual"], rows, take_rows(now, rows)) if "residual" in state.memory else now
        )

    def cost_of_looking(self, score: Score) -> float:
        """One block of all."""
        return 1 / len(score.network.layers)
