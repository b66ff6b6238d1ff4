"""The state of a token cache, and the one place where it is refreshed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_freqdiff.caching.base import Call
from lightning_freqdiff.caching.e2crf.tokens import (
    KeysValues,
    choose,
    put,
    run_all,
    run_keys_values,
    run_some,
    take,
)
from lightning_freqdiff.caching.gather import rows_of, set_rows, take_rows
from lightning_freqdiff.caching.reuse import Stale, restore, store
from lightning_freqdiff.diffusion.score import Coefficients, Score
from lightning_freqdiff.networks import Backbone, Embedding

ERROR_MEMORY = 0.5
"""Share of its old value that a token's rate of error keeps when a new one is measured."""


@dataclass
class TokenState:
    """What is remembered of a trajectory at one call position, per sample.

    Args:
        low: Frequencies that are always recomputed, ``(K,)``.
        probes: Random numbers ``(B, K, 1)`` that pick the probes; they belong to the sample, as all noise does.
        intensity: Event intensity measured last, ``(B,)``.
        rate: The same per step since the call before, ``(B,)``.
        idle: Steps since the last call, ``(B,)``.
        age: Steps since each token's refresh, ``(B, K)``.
        error_rate: Error that each token gathered per step, as its refreshes revealed, ``(B, K)``.
        budget: Share of tokens for the next call, ``(B,)``.
        by_token: Whether some tokens may be run without the others.
        z: Tokens that changes are measured against, ``(B, K, F)``; like all that follow, empty at first.
        kept: What stale tokens return, see ``reuse.py``, ``(B, K, *)``.
        features: Features at the last block, ``(B, K, d)``.
        pairs: Keys and values of every block.
        pairs_share: Share of the FLOPs that is in projecting them.
    """

    low: Tensor
    probes: Iterator[Tensor]
    intensity: Tensor
    rate: Tensor
    idle: Tensor
    age: Tensor
    error_rate: Tensor
    budget: Tensor
    by_token: bool
    z: Tensor = field(default_factory=lambda: torch.empty(0))
    kept: Tensor = field(default_factory=lambda: torch.empty(0))
    features: Tensor = field(default_factory=lambda: torch.empty(0))
    pairs: KeysValues = field(default_factory=list)
    pairs_share: float = 0.0


class Plan(NamedTuple):
    """What to recompute in a call.

    Args:
        mask: Tokens to recompute, ``(B, K)``.
        probes: Those of them that were picked at random, ``(B, K)``.
        blend: Share of the fresh value that a probe takes over, 1 but in the paper's feedback, ``(B,)``.
        spread: Whether the probes' residual corrects the tokens that are not recomputed.
    """

    mask: Tensor
    probes: Tensor
    blend: Tensor
    spread: bool = False


def run_whole(network: Backbone, embedding: Embedding, state: TokenState) -> tuple[Tensor, KeysValues]:
    """Run all blocks on all tokens, and keep the pairs where some tokens may be run later."""
    return run_all(network, *embedding) if state.by_token else (network.blocks(*embedding), [])


def fill(score: Score, z: Tensor, call: Call, c: Coefficients, state: TokenState, kind: Stale) -> Tensor:
    """Run everything for the first time; return the noise prediction ``(B, K, F)``."""
    embedding = score.embed(z, call.t, c, call.condition)
    state.features, state.pairs = run_whole(score.network, embedding, state)
    eps = score.eps(score.network.head(state.features, embedding.context), z, c)
    state.kept, state.z = store(kind, score, eps, z, c, embedding.features, state.features), z
    state.idle, state.age = torch.zeros_like(state.idle), torch.zeros_like(state.age)
    return eps


def refresh(
    score: Score,
    z: Tensor,
    call: Call,
    c: Coefficients,
    state: TokenState,
    plan: Plan,
    kind: Stale,
    eta: float,
    reach: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Recompute what the plan says, update the state, and return the past for all else.

    Args:
        score: The model.
        z: Tokens, ``(B, K, F)``.
        call: What is asked.
        c: Scales at that time.
        state: State, brought up to date in place.
        plan: What to recompute.
        kind: What stale tokens return.
        eta: Added to the features' energy in the event intensity.
        reach: Frequencies over which a residual spreads.

    Returns:
        Noise prediction ``(B, K, F)``; event intensity and mean squared error of what the probes would have returned,
        each ``(B,)`` and NaN where nothing was measured.
    """
    counts = plan.mask.sum(1).tolist()  # the one host read of a call
    past = restore(kind, score, state.kept, z, call.t, c, call.condition)
    unknown = torch.full((len(z),), math.nan, device=z.device)
    if not any(counts):
        return past, unknown, unknown
    network = score.network
    rows = rows_of([count > 0 for count in counts], z.device)
    zs, mask, kept, features = (take_rows(x, rows) for x in (z, plan.mask, state.kept, state.features))
    condition = call.condition if rows is None else call.condition.take(rows)
    embedding = score.embed(zs, call.t, c, condition)
    h0, context = embedding
    pairs = [take_rows(layer, rows) for layer in state.pairs]
    tokens = z.shape[1]
    index, valid = choose(mask, max(counts))
    if min(count for count in counts if count) == tokens:
        index = index.sort(dim=1).values
        new_features, pairs = run_whole(network, embedding, state)
    else:
        new_features, pairs = run_some(network, take(h0, index), context, pairs, index, valid)
    z_new, c_new, h0_new = take(zs, index), _at(c, index), take(h0, index)
    fresh = score.eps(network.head(new_features, context), z_new, c_new)

    intensity = _intensity(new_features, take(features, index), valid, eta)
    squared = (fresh - take(take_rows(past, rows), index)).square().mean(-1)
    picked = (take_rows(plan.probes, rows) | mask.all(1, keepdim=True)).gather(1, index) & valid
    error = torch.where(picked, squared, 0.0).sum(1) / picked.sum(1)  # 0 / 0 is NaN: nothing was measured

    blend = take_rows(plan.blend, rows).unsqueeze(1)
    full = ~take_rows(plan.probes, rows).gather(1, index) | (blend == 1)
    old_kept = take(kept, index)
    change = store(kind, score, fresh, z_new, c_new, h0_new, new_features) - old_kept
    share = torch.where(full, 1.0, blend).unsqueeze(-1)
    if plan.spread:
        kept = kept + _spread(change, index, picked, tokens, reach) * (~mask).unsqueeze(-1)
    kept = put(kept, index, old_kept + share * change, valid)
    answer = restore(kind, score, kept, zs, call.t, c, condition, embedding)
    answer = put(answer, index, fresh, valid & full)

    age = take_rows(state.age, rows)
    rate = squared.sqrt() / age.gather(1, index).clamp(min=1)
    mixed = ERROR_MEMORY * take_rows(state.error_rate, rows).gather(1, index) + (1 - ERROR_MEMORY) * rate
    for name, value in {
        "kept": kept,
        "features": put(features, index, new_features, valid),
        "z": put(take_rows(state.z, rows), index, z_new, valid),
        "age": age.masked_fill(mask, 0),
        "error_rate": _put_flat(take_rows(state.error_rate, rows), index, mixed, valid),
        "intensity": intensity,
        "rate": intensity / take_rows(state.idle, rows).clamp(min=1),
        "idle": torch.zeros_like(intensity),
    }.items():
        setattr(state, name, set_rows(getattr(state, name), rows, value))
    state.pairs = [set_rows(old, rows, new) for old, new in zip(state.pairs, pairs, strict=True)]
    return set_rows(past, rows, answer), set_rows(unknown, rows, intensity), set_rows(unknown, rows, error)


def refresh_pairs(
    score: Score, z: Tensor, call: Call, c: Coefficients, state: TokenState, mask: Tensor, eta: float
) -> tuple[Tensor, Tensor]:
    """Run everything but the key and value projections of tokens outside of ``mask``: Algorithm 1 to the letter.

    Returns:
        Noise prediction ``(B, K, F)`` and event intensity ``(B,)``.
    """
    network = score.network
    counts = mask.sum(1).tolist()  # the one host read of a call
    h0, context = score.embed(z, call.t, c, call.condition)
    if min(counts) == z.shape[1]:
        features, state.pairs = run_all(network, h0, context)
    else:
        index, valid = choose(mask, max(1, *counts))
        features, state.pairs = run_keys_values(network, h0, context, state.pairs, index, valid)
    intensity = _intensity(features, state.features, torch.ones_like(mask), eta)
    state.intensity, state.features = intensity, features
    state.rate, state.idle = intensity, torch.zeros_like(state.idle)
    state.z = torch.where(mask.unsqueeze(-1), z, state.z)
    state.age = state.age.masked_fill(mask, 0)
    return score.eps(network.head(features, context), z, c), intensity


def _intensity(new: Tensor, old: Tensor, valid: Tensor, eta: float) -> Tensor:
    """Equation 12, ``‖z_L - z_L^prev‖² / (‖z_L^prev‖² + η)``, over the tokens that were recomputed."""
    live = valid.unsqueeze(-1)
    change = torch.where(live, (new - old).square(), 0.0).sum((1, 2))
    return change / (torch.where(live, old.square(), 0.0).sum((1, 2)) + eta)


def _spread(change: Tensor, index: Tensor, picked: Tensor, tokens: int, reach: float) -> Tensor:
    """Spread the probes' change ``(B, S, D)`` over neighbouring frequencies, fading with distance: ``(B, K, D)``."""
    distance = (torch.arange(tokens, device=index.device).view(1, -1, 1) - index.unsqueeze(1)).abs()
    kernel = torch.exp(-distance / reach) * picked.unsqueeze(1)
    # The 1 stands for the prior that there is no change, so that a lone distant probe says little.
    return kernel @ change / (1 + kernel.sum(-1, keepdim=True))


def _at(c: Coefficients, index: Tensor) -> Coefficients:
    """Take the scales of chosen tokens, each ``(B, S, F)``."""
    sigma, total, spread = (take(x.expand(len(index), -1, -1), index) for x in (c.sigma, c.total, c.spread))
    return Coefficients(c.alpha, sigma, total, spread)


def _put_flat(x: Tensor, index: Tensor, values: Tensor, valid: Tensor) -> Tensor:
    return x.scatter(1, index, torch.where(valid, values, x.gather(1, index)))
