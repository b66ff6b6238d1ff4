"""FastCache: skip single blocks whose input has changed less than a chi-squared bound (arXiv 2505.20353)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from torch import Tensor

from lightning_freqdiff.caching.base import CachePolicy, Call, Outcome
from lightning_freqdiff.caching.gather import rows_of, set_rows
from lightning_freqdiff.caching.presets import Acts, Length
from lightning_freqdiff.diffusion.score import Score
from lightning_freqdiff.diffusion.score_function import Trajectory
from lightning_freqdiff.networks import Embedding
from lightning_freqdiff.networks.flops import count_flops


def chi_squared_bound(freedom: int, significance: float) -> float:
    """Return ``χ²_{D, 1-a} / D`` by Wilson and Hilferty's approximation; it tends to 1 for many features.

    Examples:
        >>> round(chi_squared_bound(10, 0.05) * 10, 1)  # tables say 18.3
        18.3
    """
    z = math.sqrt(2) * float(torch.erfinv(torch.tensor(1 - 2 * significance, dtype=torch.float64)))
    return (1 - 2 / (9 * freedom) + z * math.sqrt(2 / (9 * freedom))) ** 3


@dataclass
class BlockState:
    """Inputs and outputs of every block at the last step, each ``(B, K, d)``; and every map's share of all work."""

    settings: SimpleNamespace
    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    maps: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class FastCache(CachePolicy):
    """Skip a block where ``‖H - H_prev‖² / ‖H_prev‖² < min(cap, χ²_{D, 1-a} / D)``, a linear map in its place.

    The map ``W H + b`` of each block is fitted by ``calibrate`` on the user's checkpoint; without that it is the
    identity, as if the block were not there. The bound is close to 1 for any network of some size, so that changes
    below 100 % pass: ``cap`` is what makes it mean something. A block whose input did not change at all repeats
    its output.

    Args:
        preset: ``short`` (as published, tens of steps), ``long`` (1,000 steps), or ``auto``, by the number of steps.
        significance: Significance ``a`` of the test.
        cap: Largest relative squared change that may pass.
    """

    DEFAULTS: ClassVar[dict[str, Any]] = {"significance": 0.05, "cap": math.inf}
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {"short": {}, "long": {"cap": 5e-6}}
    ACTS: ClassVar[dict[str, Acts]] = {
        "significance": ("with a cap above its bound, which is close to 1", lambda s: s.cap > 0.1)
    }
    LIMITS: ClassVar[dict[str, tuple[float, float]]] = {"significance": (1e-12, 1 - 1e-12), "cap": (0, math.inf)}
    preset: Length = "auto"
    significance: float | None = None
    cap: float | None = None

    def begin(self, score: Score, trajectory: Trajectory) -> BlockState:
        """Start with nothing cached."""
        return BlockState(self.settings_for(len(trajectory.times) // trajectory.calls_per_step))

    def evaluate(self, score: Score, z: Tensor, call: Call, state: BlockState) -> tuple[Outcome, BlockState]:
        """Run the blocks one by one, each on the samples whose input has changed enough."""
        network, c = score.network, score.coefficients(call.t)
        h, context = score.embed(z, call.t, c, call.condition)
        bound = min(state.settings.cap, chi_squared_bound(h[0].numel(), state.settings.significance))
        first = not state.inputs
        if first:
            state.maps = _shares_of_maps(score, Embedding(h, context))
        inputs, outputs, blocks = [], [], len(network.layers)
        ran, work = torch.zeros(2, len(z), device=z.device)
        for i in range(blocks):
            inputs.append(h)
            due = [True] * len(z)
            mapped = h
            if not first:
                change = (h - state.inputs[i]).square().sum((1, 2))
                relative = change / state.inputs[i].square().sum((1, 2)).clamp(min=torch.finfo(h.dtype).tiny)
                skipped = (relative < bound) & (not call.last) | (change == 0)
                due = (~skipped).tolist()  # a host read for each block: the decision is the block's own
                if not all(due):
                    mapped = torch.where((change == 0).view(-1, 1, 1), state.outputs[i], _map(score, i, h))
                    work = work + state.maps[i]  # of all samples alike
            if any(due):
                rows = rows_of(due, z.device)
                run = network.in_chunks(partial(network.block, i), *Embedding(h, context).take(rows))
                mapped = set_rows(mapped, rows, run)
                ran = ran + torch.tensor(due, device=z.device)
            h = mapped
            outputs.append(h)
        state.inputs, state.outputs = inputs, outputs
        share = ran / blocks
        eps = score.eps(network.head(h, context), z, c)
        return Outcome(eps, share * z.shape[1], share + work), state


def _shares_of_maps(score: Score, embedding: Embedding) -> list[float]:
    """Return the FLOPs of each block's map over those of all blocks; 0 where none was fitted."""
    maps = [0.0] * len(score.network.layers)
    fitted = [i for i in range(len(maps)) if f"fastcache.weight.{i}" in score.calibration]
    if fitted:
        one = embedding.take(torch.zeros(1, dtype=torch.long, device=embedding.features.device))
        whole = max(1, count_flops(score.network.blocks, *one))
        for i in fitted:
            maps[i] = count_flops(_map, score, i, one.features) / whole
    return maps


def _map(score: Score, i: int, h: Tensor) -> Tensor:
    """Apply the fitted map of block ``i``, the identity where none was fitted."""
    weight = score.calibration.get(f"fastcache.weight.{i}")
    if weight is None:
        return h
    return torch.nn.functional.linear(h, weight.to(h), score.calibration[f"fastcache.bias.{i}"].to(h))
