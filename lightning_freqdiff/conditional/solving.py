"""The systems of known values, ``A C Aᵀ + τ²``: factored, or solved side by side by conjugate gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lightning_freqdiff.conditional.blocks import Block

JITTER = 1e-6
"""``τ²`` as a share of the mean variance of what is known: what hardly varied in training explains nothing."""

ROUNDS = 24, 96
"""Of conjugate gradients in training, at least and at most."""

WORK = 32768
"""Rounds times numbers of a block: heartbeats get 96, which bring the loss within 1 % of what it would be. With 24 it
is off by up to 15 %."""

TINY = 1e-30
"""What is divided by is no smaller."""


def affordable(size: int) -> int:
    """Return the rounds that a training step can afford on a block of so many numbers."""
    fewest, most = ROUNDS
    return min(most, max(fewest, WORK // size))


class Solved(torch.autograd.Function):
    """``(A C Aᵀ + τ²)⁻¹`` of what is wrong, ``(G, B, n)``, by conjugate gradients scaled by the diagonal.

    The map is symmetric, so that a gradient is another such system. To go back through the rounds of the first one
    instead would apply to the gradient a polynomial that was made for another vector, and is anything elsewhere.
    """

    @staticmethod
    def forward(ctx: Any, wrong: Tensor, rounds: int, *system: Tensor) -> Tensor:
        """Solve for what is wrong, and keep the system for the gradient."""
        ctx.rounds = rounds
        ctx.save_for_backward(*system)
        return _conjugate_gradients(wrong, rounds, *system)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Solve the same system for the gradient."""
        system = seen, *_ = ctx.saved_tensors
        with torch.autocast(seen.device.type, enabled=False):
            found = _conjugate_gradients(seen * slopes[0], ctx.rounds, *system)
        return found, None, *(None for _ in system)


@torch.no_grad()
def _conjugate_gradients(
    wrong: Tensor, rounds: int, seen: Tensor, design: Tensor, variance: Tensor, diagonal: Tensor, size: Tensor
) -> Tensor:
    diagonal = diagonal + torch.where(size > 0, JITTER * size, 1.0)
    solved, way, before = torch.zeros_like(wrong), torch.zeros_like(wrong), torch.ones_like(size)
    for _ in range(rounds):
        scaled = wrong / diagonal
        now = (wrong * scaled).sum(2, keepdim=True)
        way = scaled + torch.where(before > 0, now / before.clamp(min=TINY), 0.0) * way
        image = seen * ((way @ design * variance) @ design.mT) + JITTER * size * way
        met = (way * image).sum(2, keepdim=True)
        length = torch.where(met > 0, now / met.clamp(min=TINY), 0.0)
        solved, wrong, before = solved + length * way, wrong - length * image, now
    return solved


def factored(maps: list[tuple[Block, Tensor]], spreads: list[Tensor]) -> Tensor:
    """Return the Cholesky factor of ``A C Aᵀ + τ²``, ``(k, k)``."""
    total = sum((map_ * variance) @ map_.T for (_, map_), variance in zip(maps, spreads, strict=True))
    assert isinstance(total, Tensor)
    size = total.diagonal().mean()
    tiny = torch.where(size > 0, JITTER * size, 1.0)  # of what never varies, nothing follows
    return torch.linalg.cholesky(total + tiny * torch.eye(len(total), dtype=total.dtype, device=total.device))
