"""DeepCache: run the shallow levels of a U-Net at every step, and the deep ones now and then (arXiv 2312.00858)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from torch import Tensor

from lightning_freqdiff.caching.base import CachePolicy, Call, Outcome
from lightning_freqdiff.caching.presets import Length
from lightning_freqdiff.diffusion.score import Score
from lightning_freqdiff.diffusion.score_function import Trajectory
from lightning_freqdiff.networks import Embedding, Levelled
from lightning_freqdiff.networks.flops import count_flops


@dataclass
class DeepState:
    """What a DeepCache remembers.

    Args:
        settings: Every setting of the policy, for this trajectory.
        risen: What rose to the branch at the last full call, ``(B, *)``.
        skipped: Calls since then.
        share: Share of a call's FLOPs that the shallow levels are.
    """

    settings: SimpleNamespace
    risen: Tensor | None = None
    skipped: int = 0
    share: float = 0.0


@dataclass(frozen=True)
class DeepCache(CachePolicy):
    """Let what rises to a level from beneath be that of the last full call, made every ``interval`` steps.

    The levels above, which see the present input and the present time, are run at every step. It is for networks
    with levels (``UNet``). In the ledger a call of the shallow levels counts as tokens that were not recomputed, and
    as the work that it is. The first and the last step are full calls.

    Args:
        preset: ``short`` (as published, tens of steps), ``long`` (1,000 steps), or ``auto``, by the number of steps.
        interval: Steps from one full call to the next.
        branch: Lowest level that is run at every step: 0 is the finest, the one of the first skip connection.
    """

    DEFAULTS: ClassVar[dict[str, Any]] = {"interval": 5, "branch": 0}
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {"short": {}, "long": {"interval": 50}}
    LIMITS: ClassVar[dict[str, tuple[float, float]]] = {"interval": (1, math.inf), "branch": (0, math.inf)}
    preset: Length = "auto"
    interval: int | None = None
    branch: int | None = None

    def begin(self, score: Score, trajectory: Trajectory) -> DeepState:
        """Start with nothing cached, on a network with as many levels."""
        settings = self.settings_for(len(trajectory.times) // trajectory.calls_per_step)
        levels = score.network.levels if isinstance(score.network, Levelled) else 0
        if settings.branch >= levels:
            raise ValueError(
                f"expected a network with more than {settings.branch} levels above its coarsest, such as UNet, got "
                f"{type(score.network).__name__} with {levels}: set `policy.branch`, or train with "
                "another `model.network`"
            )
        return DeepState(settings)

    def evaluate(self, score: Score, z: Tensor, call: Call, state: DeepState) -> tuple[Outcome, DeepState]:
        """Run all levels, or the shallow ones."""
        network, c, s = score.network, score.coefficients(call.t), state.settings
        assert isinstance(network, Levelled)
        embedding = score.embed(z, call.t, c, call.condition)
        full = state.risen is None or call.last or state.skipped + 1 >= s.interval
        run = partial(_above, network.above, s.branch)
        features, risen = network.in_chunks(run, *embedding, None if full else state.risen)
        eps = score.eps(network.head(features, embedding.context), z, c)
        if state.risen is None:
            state.share = _share(network, embedding, s.branch, risen)
        state.risen, state.skipped = risen, 0 if full else state.skipped + 1
        called = eps.new_full((len(z),), float(full))
        return Outcome(eps, called * z.shape[1], called + (1 - called) * state.share), state


def _above(run: Any, branch: int, h: Tensor, context: Tensor | None, risen: Tensor | None) -> tuple[Tensor, Tensor]:
    return run(h, context, branch, risen)


def _share(network: Levelled, embedding: Embedding, branch: int, risen: Tensor) -> float:
    """Return the FLOPs of the shallow levels over those of all, for one sample."""
    one = embedding.take(torch.zeros(1, dtype=torch.long, device=risen.device))
    above, whole = (count_flops(network.above, *one, branch, known) for known in (risen[:1], None))
    return above / max(whole, 1)
