"""FastCache: skip single blocks whose input has changed less than a chi-squared bound (arXiv 2505.20353)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from torch import Tensor

from lightning_freqdiff.caching.base import CachePolicy, Call, Outcome
from lightning_freqdiff.caching.e2crf.tokens import layers_of, require_tokens
from lightning_freqdiff.caching.gather import rows_of, set_rows, take_rows
from lightning_freqdiff.caching.presets import Length, Presets
from lightning_freqdiff.diffusion.score import Score, Trajectory
from lightning_freqdiff.networks.kernels.chunks import in_pieces


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
    """Inputs and outputs of every block at the last step, each ``(B, K, d)``."""

    settings: SimpleNamespace
    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)


@dataclass(frozen=True)
class FastCache(Presets, CachePolicy):
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

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "short": {"significance": 0.05, "cap": math.inf},
        "long": {"cap": 5e-6},
    }
    LIMITS: ClassVar[dict[str, tuple[float, float]]] = {"significance": (1e-12, 1 - 1e-12), "cap": (0, math.inf)}
    preset: Length = "auto"
    significance: float | None = None
    cap: float | None = None

    def begin(self, score: Score, trajectory: Trajectory) -> BlockState:
        """Start with nothing cached."""
        require_tokens(score.network)
        return BlockState(self.settings_for(len(trajectory.times) // trajectory.calls_per_step))

    def evaluate(self, score: Score, z: Tensor, call: Call, state: BlockState) -> tuple[Outcome, BlockState]:
        """Run the blocks one by one, each on the samples whose input has changed enough."""
        network, c = require_tokens(score.network), score.coefficients(call.t)
        h = score.embed(z, call.t, c)
        bound = min(state.settings.cap, chi_squared_bound(h[0].numel(), state.settings.significance))
        first = not state.inputs
        inputs, outputs, ran = [], [], torch.zeros(len(z), device=z.device)
        for i, block in enumerate(layers_of(network)):
            inputs.append(h)
            due = [True] * len(z)
            mapped = h
            if not first:
                change = (h - state.inputs[i]).square().sum((1, 2))
                relative = change / state.inputs[i].square().sum((1, 2)).clamp(min=torch.finfo(h.dtype).tiny)
                skipped = (relative < bound) & (not call.last) | (change == 0)
                due = (~skipped).tolist()  # a host read for each block: the decision is the block's own
                mapped = torch.where((change == 0).view(-1, 1, 1), state.outputs[i], _map(score, i, h))
            if any(due):
                rows = rows_of(due, z.device)
                run = in_pieces(block, network.piece(sum(due), z.device), take_rows(h, rows))
                mapped = set_rows(mapped, rows, run)
                ran = ran + torch.tensor(due, device=z.device)
            h = mapped
            outputs.append(h)
        state.inputs, state.outputs = inputs, outputs
        share = ran / len(inputs)
        tokens, layers, width, _ = network.sizes
        mapping = 2 * tokens * width**2 * layers / network.flops(tokens)
        unknown = torch.full_like(share, math.nan)
        noise = score.noise(network.head(h), z, c)
        return Outcome(noise, share * z.shape[1], share + (1 - share) * mapping, unknown, unknown), state


def _map(score: Score, i: int, h: Tensor) -> Tensor:
    """Apply the fitted map of block ``i``, the identity where none was fitted."""
    weight = score.calibration.get(f"fastcache.weight.{i}")
    if weight is None:
        return h
    return torch.nn.functional.linear(h, weight.to(h), score.calibration[f"fastcache.bias.{i}"].to(h))
