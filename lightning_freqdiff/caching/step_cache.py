"""Whole-call skipping: run the network on the samples that are due, and let the others return their past."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_freqdiff.caching.base import CachePolicy, Call, Outcome
from lightning_freqdiff.caching.gather import known_at, rows_of, set_rows, take_rows
from lightning_freqdiff.caching.reuse import restore, store
from lightning_freqdiff.condition import Condition
from lightning_freqdiff.diffusion.score import Coefficients, Score
from lightning_freqdiff.diffusion.score_function import Trajectory
from lightning_freqdiff.networks import Embedding


class Fresh(NamedTuple):
    """What a network call leaves, for the samples it was made for: ``eps``, ``h⁰`` and the last block's features."""

    eps: Tensor
    h0: Tensor
    features: Tensor


def run_network(
    score: Score, z: Tensor, t: Tensor, c: Coefficients, condition: Condition, embedding: Embedding | None = None
) -> Fresh:
    """Call the whole network, with the very operations of an uncached call."""
    h0, context = score.embed(z, t, c, condition) if embedding is None else embedding
    features = score.network.blocks(h0, context)
    return Fresh(score.eps(score.network.head(features, context), z, c), h0, features)


@dataclass
class WholeState:
    """What a whole-call cache remembers, per sample; the tensors are empty until the first call.

    Args:
        settings: Every setting of the policy, for this trajectory.
        kept: What a skipped call returns, see ``reuse.py``.
        idle: Calls skipped in a row, ``(B,)``.
        memory: Whatever else the policy needs, by name; each has samples along its first axis.
    """

    settings: SimpleNamespace
    idle: Tensor
    kept: Tensor = field(default_factory=lambda: torch.empty(0))
    memory: dict[str, Tensor] = field(default_factory=dict)


class WholeCallPolicy(CachePolicy):
    """A cache that looks at the embedded input of a call, and then runs the whole network or none of it.

    The first and the last step are always computed. Everything is decided per sample; the samples that are due are
    gathered into one network call.
    """

    def begin(self, score: Score, trajectory: Trajectory) -> WholeState:
        """Start with nothing cached."""
        steps = len(trajectory.times) // trajectory.calls_per_step
        settings = self.settings_for(steps)
        settings.steps = steps
        return WholeState(settings, torch.zeros(trajectory.shape[0], device=score.noise_scale.device))

    @abstractmethod
    def decide(self, score: Score, embedding: Embedding, call: Call, state: WholeState) -> Tensor:
        """Return which samples are due, ``(B,)``, taking note of the input in the state's memory."""

    def note(self, call: Call, kept: Tensor, rows: Tensor | None, state: WholeState) -> None:
        """Take note of a network call that was made for ``rows``, before what is kept of it is in the state."""

    def forecast(self, call: Call, state: WholeState) -> Tensor:
        """Return what stands for the features of a skipped call: what was kept, unless something else is known."""
        return state.kept

    def cost_of_looking(self, score: Score) -> float:
        """Return the share of a network call that a decision costs; 0 where it is negligible."""
        return 0.0

    def evaluate(self, score: Score, z: Tensor, call: Call, state: Any) -> tuple[Outcome, Any]:
        """Decide per sample, run the network for those that are due, and return the past for the rest."""
        c, stale = score.coefficients(call.t), state.settings.stale
        embedding = score.embed(z, call.t, c, call.condition)
        due = self.decide(score, embedding, call, state)
        filled = state.kept.numel() > 0
        if not filled or call.last:
            due = torch.ones_like(due)
        looked = self.cost_of_looking(score)
        chosen = due.tolist()  # the one host read of a call
        if not any(chosen):
            eps = restore(stale, score, self.forecast(call, state), z, call.t, c, call.condition, embedding)
            state.idle = state.idle + 1
            return Outcome.whole(eps, 0.0, looked=looked), state
        rows = rows_of(chosen, z.device)
        fresh = run_network(score, take_rows(z, rows), call.t, c, call.condition, embedding.take(rows))
        kept = store(stale, score, fresh.eps, take_rows(z, rows), c, fresh.h0, fresh.features)
        error, eps = None, fresh.eps
        if filled:
            past = restore(stale, score, self.forecast(call, state), z, call.t, c, call.condition, embedding)
            squared = (fresh.eps - take_rows(past, rows)).square().mean((1, 2))
            error, eps = known_at(rows, squared, len(z)), set_rows(past, rows, fresh.eps)
        self.note(call, kept, rows, state)
        state.kept = set_rows(state.kept, rows, kept) if filled else kept
        state.idle = torch.where(due, 0.0, state.idle + 1)
        return Outcome.whole(eps, due.float(), error, looked), state
