"""Where few steps are placed: at the times from which most of the way is explained.

Along the principal directions of the series, each by itself, with ``y = z/α`` over ``Λ`` and ``D`` the clean
estimate, a step from time ``j`` to time ``k`` with a call at ``i`` behind it is a regression of ``y_k`` on ``y_j``,
``D_j`` and ``D_i``. What it leaves unexplained on a teacher's own paths is known for all triples of times without a
network call; on its way to the data it shrinks as in a Gaussian, by ``p / (p + r²)``. The times of ``n`` steps are
the way from noise to data with the least sum of it, found by dynamic programming over pairs of times.
"""

from __future__ import annotations

import torch
from torch import Tensor

CHUNK = 64
"""Directions whose paths are looked at together."""
TRUST = 1e-3
"""Added to the size of every regressor, relative to it: what is hardly seen explains nothing."""


def step_costs(rows: Tensor, clean: Tensor, ratio: Tensor, power: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return what steps leave unexplained at the end, summed over directions.

    Args:
        rows: ``y`` at the teacher's times, ``(T + 1, B, n)``.
        clean: ``D`` there, of the same shape; that at the end is not looked at.
        ratio: ``r = σ/α`` there, ``(T + 1,)``.
        power: Variance along the directions, ``(n,)``.

    Returns:
        For a first step from ``j`` to ``k``, ``(T + 1, T + 1)``; for one with a call at ``i`` behind it,
        ``(T + 1, T + 1, T + 1)``; for the last step from ``j``, ``(T + 1,)``. Infinite where time does not go on.
    """
    end = len(ratio) - 1
    first = torch.full((end + 1, end + 1), torch.inf, dtype=torch.float64, device=rows.device)
    later, last = first.expand(end + 1, -1, -1).clone(), first[0].clone()
    carried = power.double() / (power.double() + ratio.to(power.device).unsqueeze(1).square())  # (T + 1, n)
    for part in torch.arange(rows.shape[-1], device=rows.device).split(CHUNK):
        y, d = (x[..., part].permute(2, 0, 1).double() for x in (rows, clean))  # (n, T + 1, B)
        carry = carried[:, part]
        for j in range(end):
            to, behind = slice(j + 1, None), slice(None, j)
            span = torch.stack([y[:, j] - d[:, j], d[:, j]], 1)
            left = _unexplained(span, torch.cat([y[:, to], d[:, behind]], 1))
            wanted, known = left.split([end - j, j], 1)
            square = wanted.square().sum(2)
            first[j, to] = _add(first[j, to], (square.T * carry[to]).sum(1))
            size = (d[:, j : j + 1] - d[:, behind]).square().sum(2) * TRUST + known.square().sum(2)
            gained = torch.einsum("nib,nkb->nik", known, wanted).square() / positive(size).unsqueeze(2)
            later[behind, j, to] = _add(
                later[behind, j, to], torch.einsum("nik,kn->ik", square.unsqueeze(1) - gained, carry[to])
            )
            share = float(ratio[end] / ratio[j])
            missed = y[:, end] - share * y[:, j] - (1 - share) * d[:, j]
            last[j] = _add(last[j], (missed.square().sum(1) * carry[end]).sum())
    return first, later, last


def _add(total: Tensor, more: Tensor) -> Tensor:
    return torch.where(total.isinf(), more, total + more)


def _unexplained(span: Tensor, rows: Tensor) -> Tensor:
    """Return what is left of rows ``(n, k, B)`` beside a span of two, ``(n, 2, B)``."""
    gram = span @ span.mT
    gram = gram + torch.diag_embed(positive(TRUST * gram.diagonal(dim1=1, dim2=2)))
    return rows - (rows @ span.mT) @ torch.linalg.solve(gram, span)


def positive(x: Tensor) -> Tensor:
    """Return what can be divided by."""
    return x.clamp(min=1e-30)


def best_places(first: Tensor, later: Tensor, last: Tensor, count: int) -> list[int]:
    """Find the way of ``count`` steps with the least cost; see :func:`step_costs`. ``count`` is at least 2."""
    end, cost, choices = len(last) - 1, torch.full_like(first, torch.inf), []
    cost[0, 1:-1] = first[0, 1:-1]  # from i to j, by the number of steps made
    for _ in range(count - 2):
        cost, chosen = (cost.unsqueeze(2) + later).min(0)
        cost[:, end] = torch.inf
        choices.append(chosen)
    i, j = divmod(int((cost + last).argmin()), end + 1)
    places = [end, j, i]
    for chosen in reversed(choices):
        i, j = int(chosen[i, j]), i
        places.append(i)
    return places[::-1]
