"""ToMe: merge tokens that are alike before a block, and give each its change back (arXiv 2210.09461, 2303.17604)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from lightning_freqdiff.caching.base import CachePolicy, Call, Outcome
from lightning_freqdiff.caching.presets import Length
from lightning_freqdiff.diffusion.score import Score
from lightning_freqdiff.diffusion.score_function import Trajectory
from lightning_freqdiff.networks import Backbone, Embedding
from lightning_freqdiff.networks.flops import count_flops


@dataclass
class MergeState:
    """Nothing is remembered but what a call costs: its share of the FLOPs of an uncached one."""

    settings: SimpleNamespace
    share: float | None = None


class Groups(NamedTuple):
    """Which tokens became one.

    Attributes:
        number: Number of each token's group, ``(B, K)``, from 0.
        sizes: Tokens in each group, ``(B, G, 1)``.
    """

    number: Tensor
    sizes: Tensor


def match(h: Tensor, ratio: float) -> Groups:
    """Group tokens by bipartite soft matching: those of odd places with the most similar ones of even places.

    Args:
        h: Features, ``(B, K, d)``; likeness is the cosine.
        ratio: Share of the tokens that are merged into others, at most those of odd places.
    """
    samples, tokens = h.shape[:2]
    unit = torch.nn.functional.normalize(h, dim=-1)
    even, odd = unit[:, ::2], unit[:, 1::2]
    merged = min(round(ratio * tokens), odd.shape[1])
    best, nearest = (odd @ even.mT).max(dim=-1)
    order = best.argsort(dim=-1, descending=True, stable=True)
    gone, stays = order[:, :merged], order[:, merged:]
    evens = even.shape[1]
    of_odd = torch.empty_like(order)
    of_odd.scatter_(1, gone, nearest.gather(1, gone))
    alone = torch.arange(evens, evens + stays.shape[1], device=h.device).expand(samples, -1)
    of_odd.scatter_(1, stays, alone)
    number = torch.empty(samples, tokens, dtype=order.dtype, device=h.device)
    number[:, ::2], number[:, 1::2] = torch.arange(evens, device=h.device), of_odd
    count = torch.zeros(samples, tokens - merged, 1, dtype=h.dtype, device=h.device)
    return Groups(number, count.scatter_add_(1, number.unsqueeze(-1), torch.ones_like(h[..., :1])))


def merge(h: Tensor, groups: Groups) -> Tensor:
    """Return the mean of each group's features, ``(B, G, d)``."""
    wide = groups.number.unsqueeze(-1).expand(-1, -1, h.shape[-1])
    total = h.new_zeros(len(h), groups.sizes.shape[1], h.shape[-1]).scatter_add_(1, wide, h)
    return total / groups.sizes.to(h)


def unmerge(h: Tensor, groups: Groups) -> Tensor:
    """Return for each token its group's features, ``(B, K, d)``."""
    return h.gather(1, groups.number.unsqueeze(-1).expand(-1, -1, h.shape[-1]))


def merged_blocks(network: Backbone, ratio: float, h: Tensor, context: Tensor | None) -> Tensor:
    """Run all blocks, each on tokens merged anew; a token gains what its group has gained."""
    for number in range(len(network.layers)):
        groups = match(h, ratio)
        one = merge(h, groups)
        h = h + unmerge(network.block(number, one, context) - one, groups)
    return h


@dataclass(frozen=True)
class ToMe(CachePolicy):
    """Merge a share of the tokens before each block, into those most like them, and undo it behind.

    Nothing is kept from step to step. The blocks' work falls with the number of tokens. What a block adds to a group
    is added to each of its tokens, which so stay apart. It is for transformers whose tokens go one by one. Pixels
    are alike where they are neighbours; frequencies, each in units and with a position of its own, are not: expect
    little of it here. Half the tokens is the most that can be merged.

    Args:
        preset: ``short`` (as published), ``long`` (1,000 steps, over which errors add up), or ``auto``.
        ratio: Share of the tokens that are merged into others.
    """

    DEFAULTS: ClassVar[dict[str, Any]] = {"ratio": 0.5}
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {"short": {}, "long": {"ratio": 0.25}}
    LIMITS: ClassVar[dict[str, tuple[float, float]]] = {"ratio": (0, 0.5)}
    preset: Length = "auto"
    ratio: float | None = None

    def begin(self, score: Score, trajectory: Trajectory) -> MergeState:
        """Start, on a network that runs on any number of tokens."""
        if score.network.token_blocks is None:
            raise ValueError(
                "expected a network whose tokens can be merged, such as Transformer, got "
                f"{type(score.network).__name__}: set `policy` to another, or train with another `model.network`"
            )
        return MergeState(self.settings_for(len(trajectory.times) // trajectory.calls_per_step))

    def evaluate(self, score: Score, z: Tensor, call: Call, state: MergeState) -> tuple[Outcome, MergeState]:
        """Run the network on merged tokens."""
        network, c, ratio = score.network, score.coefficients(call.t), state.settings.ratio
        embedding = score.embed(z, call.t, c, call.condition)
        run = partial(merged_blocks, network, ratio)
        merges = min(round(ratio * z.shape[1]), z.shape[1] // 2)
        if state.share is None:
            state.share = _share(network, run, embedding) if merges else 1.0
        features = network.in_chunks(run, *embedding) if merges else network.blocks(*embedding)
        eps = score.eps(network.head(features, embedding.context), z, c)
        ones = eps.new_ones(len(z))
        return Outcome(eps, ones * (z.shape[1] - merges), ones * state.share), state


def _share(network: Backbone, run: Any, embedding: Embedding) -> float:
    """Return the FLOPs of merged blocks over those of whole ones, for one sample."""
    one = embedding.take(torch.zeros(1, dtype=torch.long, device=embedding.features.device))
    return count_flops(run, *one) / max(1, count_flops(network.blocks, *one))
