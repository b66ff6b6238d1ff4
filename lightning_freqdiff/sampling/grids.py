"""Where along the diffusion time the steps are placed."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from lightning_freqdiff.diffusion.sde import SDE, T_MIN

Grid = Literal["uniform", "logsnr", "edm", "tuned"]
EDM_RHO = 7.0
TIMES, COSTS = "grid.times", "grid.costs"
"""What of a calibration a tuned grid is made of."""
MOST = 10
"""Jumps that are placed one by one. Of more, single ones would seem harmless by luck, and steps become uneven."""
LAST = 2.0
"""How much more the last jump counts than the first: what early ones spoil, the network mends later on."""


def time_grid(
    sde: SDE, num_steps: int, grid: Grid = "uniform", calibration: Mapping[str, Tensor] = MappingProxyType({})
) -> Tensor:
    """Place ``num_steps + 1`` times from 1 down to ``ε``.

    Args:
        sde: Forward process.
        num_steps: Number of solver steps.
        grid: ``uniform`` in ``t``; ``logsnr``, uniform in ``log(α/σ)``; ``edm``, uniform in
            ``(σ/α)^{1/7}`` (Karras et al., arXiv 2206.00364, equation 5); ``tuned``, the jumps that together do this
            model the least damage.
        calibration: What ``calibrate`` fitted to the model; needed for ``tuned``.

    Returns:
        Decreasing times, ``(num_steps + 1,)``, float64.
    """
    if num_steps < 1:
        raise ValueError(f"expected num_steps >= 1, got {num_steps}: set `sampling.num_steps`")
    if grid not in get_args(Grid):
        raise ValueError(f"expected a grid of {', '.join(get_args(Grid))}, got {grid!r}: set `sampling.grid`")
    if grid == "tuned":
        return _tuned(sde, num_steps, calibration)
    ends = torch.tensor([1.0, T_MIN], dtype=torch.float64)
    fraction = torch.linspace(0, 1, num_steps + 1, dtype=torch.float64)
    if grid == "uniform":
        times = ends[0] + fraction * (ends[1] - ends[0])
    else:
        high, low = sde.log_snr(ends)
        wanted = high + fraction * (low - high)
        if grid == "edm":
            start, end = (-high / EDM_RHO).exp(), (-low / EDM_RHO).exp()
            wanted = -EDM_RHO * (start + fraction * (end - start)).log()
        times = sde.time_at(wanted)
    times[0], times[-1] = ends
    return times


def _tuned(sde: SDE, num_steps: int, calibration: Mapping[str, Tensor]) -> Tensor:
    """Choose among the teacher's times, ``MOST`` jumps at most; more steps share out these, even in ``log(α/σ)``."""
    if TIMES not in calibration:
        raise ValueError(
            "expected a model whose grids were learnt, got one without for a tuned grid: run calibrate on its "
            "checkpoint, or set `sampling.grid`"
        )
    jumps = min(num_steps, MOST)
    times = calibration[TIMES][cheapest_path(calibration[COSTS], jumps)[0]]
    if jumps == num_steps:
        return times
    between = np.interp(np.linspace(0, jumps, num_steps + 1), np.arange(jumps + 1), sde.log_snr(times).numpy())
    finer = sde.time_at(torch.from_numpy(between))
    finer[0], finer[-1] = times[0], times[-1]
    return finer


def cheapest_path(costs: Tensor, jumps: int, last: float = LAST) -> tuple[list[int], float]:
    """Find the way from the first point to the last in so many jumps whose costs have the least sum.

    By dynamic programming, as in GITS (Chen et al., arXiv 2405.11326, algorithm 1).

    Args:
        costs: Cost of a jump from ``i`` to ``j``, infinite where it does not lead forward, ``(T + 1, T + 1)``.
        jumps: How many, from 1 to ``T``.
        last: Weight of the last jump where the first has 1 and each other a constant factor more than the one before.
            (In GITS that factor is 1.15 for any number of jumps, which is a last weight of 2 for six of them.)

    Returns:
        The points, ``jumps + 1`` of them, and the weighted sum.
    """
    growth = last ** (1 / max(1, jumps - 1))
    rest, choices = costs[:, -1], []
    for _ in range(jumps - 1):
        rest, chosen = (costs + growth * rest).min(dim=1)
        choices.append(chosen)
    path = [0]
    for chosen in reversed(choices):
        path.append(int(chosen[path[-1]]))
    return [*path, len(costs) - 1], float(rest[0])
