"""The state of a token cache, and the one place where it is refreshed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_freqdiff.caching.base import Call, Outcome
from lightning_freqdiff.caching.e2crf.tokens import (
    KeysValues,
    choose,
    put,
    run_all,
    run_keys_values,
    run_some,
    share_of_pairs,
    take,
)
from lightning_freqdiff.caching.gather import known_at, rows_of, set_rows, take_rows
from lightning_freqdiff.caching.reuse import restore, store
from lightning_freqdiff.diffusion.score import Coefficients, Score
from lightning_freqdiff.networks import Backbone, Embedding

ERROR_MEMORY = 0.5
"""Share of its old value that a token's rate of error keeps when a new one is measured."""


@dataclass
class TokenState:
    """What is remembered of a trajectory at one call position, per sample.

    Args:
        settings: Every setting of the policy.
        low: Frequencies that are always recomputed, ``(K,)``.
        probes: Random numbers ``(B, K, 1)`` that pick the probes; they belong to the sample, as all noise does.
        intensity: Event intensity measured last, ``(B,)``.
        rate: The same per step since the call before, ``(B,)``.
        idle: Steps since the last call, ``(B,)``.
        age: Steps since each token's refresh, ``(B, K)``.
        error_rate: Error that each token gathered per step, as its refreshes revealed, ``(B, K)``.
        by_token: Whether some tokens may be run without the others.
        z: Tokens that changes are measured against, ``(B, K, F)``; like all that follow, empty at first.
        kept: What stale tokens return, see ``reuse.py``, ``(B, K, *)``.
        features: Features at the last block, ``(B, K, d)``.
        pairs: Keys and values of every block.
        pairs_share: Share of the FLOPs that is in projecting them.
    """

    settings: SimpleNamespace
    low: Tensor
    probes: Iterator[Tensor]
    intensity: Tensor
    rate: Tensor
    idle: Tensor
    age: Tensor
    error_rate: Tensor
    by_token: bool
    z: Tensor = field(default_factory=lambda: torch.empty(0))
    kept: Tensor = field(default_factory=lambda: torch.empty(0))
    features: Tensor = field(default_factory=lambda: torch.empty(0))
    pairs: KeysValues = field(default_factory=list)
    pairs_share: float = 0.0


class Plan(NamedTuple):
    """What to recompute in a call.

    Attributes:
        mask: Tokens to recompute, ``(B, K)``.
        probes: Those of them that were picked at random, ``(B, K)``.
        blend: ``α`` of equation 14, by which a probe's past is corrected, ``(B,)``; ``None`` where probes are taken
            whole.
    """

    mask: Tensor
    probes: Tensor
    blend: Tensor | None

    def share(self) -> Tensor:
        """Return how much of its fresh value each token takes over, ``(B, K)``."""
        whole = torch.ones(self.mask.shape, device=self.mask.device)
        return whole if self.blend is None else torch.where(self.probes, self.blend.unsqueeze(1), whole)


def run_whole(network: Backbone, embedding: Embedding, state: TokenState) -> tuple[Tensor, KeysValues]:
    """Run all blocks on all tokens, and keep the pairs where some tokens may be run later."""
    return run_all(network, *embedding) if state.by_token else (network.blocks(*embedding), [])


def fill(score: Score, z: Tensor, call: Call, c: Coefficients, state: TokenState) -> Outcome:
    """Run everything for the first time."""
    embedding, s = score.embed(z, call.t, c, call.condition), state.settings
    state.features, state.pairs = run_whole(score.network, embedding, state)
    eps = score.eps(score.network.head(state.features, embedding.context), z, c)
    state.kept, state.z = store(s.stale, score, eps, z, c, embedding.features, state.features), z
    state.idle, state.age = torch.zeros_like(state.idle), torch.zeros_like(state.age)
    if s.reuse == "kv":
        state.pairs_share = share_of_pairs(score.network, embedding)
    return Outcome.whole(eps, 1.0)


def refresh(score: Score, z: Tensor, call: Call, c: Coefficients, state: TokenState, plan: Plan) -> Outcome:
    """Recompute what the plan says, bring the state up to date in place, and return the past for all else."""
    s, network, tokens = state.settings, score.network, z.shape[1]
    counts = plan.mask.sum(1).tolist()  # the one host read of a call
    past = restore(s.stale, score, state.kept, z, call.t, c, call.condition)
    done, most = torch.tensor(counts, dtype=z.dtype, device=z.device), max(counts)
    if not most:
        return Outcome.whole(past, 0.0)
    rows = rows_of([count > 0 for count in counts], z.device)
    zs, mask, kept, features, probes, share = (
        take_rows(x, rows) for x in (z, plan.mask, state.kept, state.features, plan.probes, plan.share())
    )
    condition = call.condition if rows is None else call.condition.take(rows)
    h0, context = embedding = score.embed(zs, call.t, c, condition)
    pairs = [take_rows(layer, rows) for layer in state.pairs]
    index, valid = choose(mask, most)
    whole = min(count for count in counts if count) == tokens

    def chosen(x: Tensor) -> Tensor:
        return x if whole else take(x, index)

    def renewed(x: Tensor, values: Tensor) -> Tensor:
        return values if whole else put(x, index, values, valid)

    if whole:  # features need not be one for each token then
        index = index.sort(dim=1).values
        new_features, pairs = run_whole(network, embedding, state)
    else:
        new_features, pairs = run_some(network, chosen(h0), context, pairs, index, valid)
    z_new, c_new, h0_new = chosen(zs), c if whole else _at(c, index), chosen(h0)
    lacking = score.lacking(zs, c)  # of all tokens, whichever are recomputed
    fresh = score.eps(network.head(new_features, context), z_new, c_new, None if lacking is None else chosen(lacking))

    intensity = _intensity(new_features, chosen(features), valid if state.by_token else valid[:, :1], s.eta)
    squared = (fresh - chosen(take_rows(past, rows))).square().mean(-1)
    picked = (probes | mask.all(1, keepdim=True)).gather(1, index) & valid
    error = torch.where(picked, squared, 0.0).sum(1) / picked.sum(1)  # 0 / 0 is NaN: nothing was measured

    share, old_kept = share.gather(1, index), chosen(kept)
    new_kept = store(s.stale, score, fresh, z_new, c_new, h0_new, new_features)
    if plan.blend is not None:
        new_kept = old_kept + share.unsqueeze(-1) * (new_kept - old_kept)
    kept = renewed(kept, new_kept)
    answer = restore(s.stale, score, kept, zs, call.t, c, condition, embedding)
    answer = put(answer, index, fresh, valid & (share == 1))

    age, error_rate = take_rows(state.age, rows), take_rows(state.error_rate, rows)
    rate = squared.sqrt() / age.gather(1, index).clamp(min=1)
    mixed = ERROR_MEMORY * error_rate.gather(1, index) + (1 - ERROR_MEMORY) * rate
    for name, value in {
        "kept": kept,
        "features": renewed(features, new_features),
        "z": renewed(take_rows(state.z, rows), z_new),
        "age": age.masked_fill(mask, 0),
        "error_rate": put(error_rate.unsqueeze(-1), index, mixed.unsqueeze(-1), valid).squeeze(-1),
        "intensity": intensity,
        "rate": intensity / take_rows(state.idle, rows).clamp(min=1),
        "idle": torch.zeros_like(intensity),
    }.items():
        setattr(state, name, set_rows(getattr(state, name), rows, value))
    state.pairs = [set_rows(old, rows, new) for old, new in zip(state.pairs, pairs, strict=True)]
    intensity, error = known_at(rows, intensity, len(z)), known_at(rows, error, len(z))
    # All samples that ran were padded to the largest set among them.
    return Outcome(set_rows(past, rows, answer), done, (done > 0) * (most / tokens), error, intensity)


def refresh_pairs(score: Score, z: Tensor, call: Call, c: Coefficients, state: TokenState, plan: Plan) -> Outcome:
    """Run everything but the key and value projections of tokens outside of the plan: Algorithm 1 to the letter."""
    network, mask, tokens, share = score.network, plan.mask, z.shape[1], plan.share()
    done, whole = mask.sum(1), (mask & (share == 1)).sum(1)
    counts, least = torch.stack([done, whole]).tolist()  # the one host read of a call
    h0, context = score.embed(z, call.t, c, call.condition)
    if min(least) == tokens:
        features, state.pairs = run_all(network, h0, context)
    else:
        index, valid = choose(mask, max(counts))
        features, state.pairs = run_keys_values(network, h0, context, state.pairs, index, valid, share)
    intensity = _intensity(features, state.features, torch.ones_like(mask), state.settings.eta)
    state.intensity, state.features = intensity, features
    state.rate, state.idle = intensity, torch.zeros_like(state.idle)
    state.z = torch.where(mask.unsqueeze(-1), z, state.z)
    state.age = state.age.masked_fill(mask, 0)
    eps, one = score.eps(network.head(features, context), z, c), torch.ones_like(intensity)
    work = one - (1 - max(counts) / tokens) * state.pairs_share
    return Outcome(eps, done.float(), work, intensity=intensity, called=one)


def _intensity(new: Tensor, old: Tensor, valid: Tensor, eta: float) -> Tensor:
    """Equation 12, ``‖z_L - z_L^prev‖² / (‖z_L^prev‖² + η)``, over the tokens that were recomputed."""
    live = valid.unsqueeze(-1)
    change = torch.where(live, (new - old).square(), 0.0).sum((1, 2))
    return change / (torch.where(live, old.square(), 0.0).sum((1, 2)) + eta)


def _at(c: Coefficients, index: Tensor) -> Coefficients:
    """Take the scales of chosen tokens, each ``(B, S, F)``."""
    sigma, total, spread = (take(x.expand(len(index), -1, -1), index) for x in (c.sigma, c.total, c.spread))
    return Coefficients(c.alpha, c.level, sigma, total, spread)
