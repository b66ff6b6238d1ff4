"""Where along the diffusion time the steps are placed."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from lightning_freqdiff.diffusion.sde import SDE, T_MIN

Grid = Literal["uniform", "logsnr", "edm"]
EDM_RHO = 7.0


def time_grid(sde: SDE, num_steps: int, grid: Grid = "uniform") -> Tensor:
    """Place ``num_steps + 1`` times from 1 down to ``ε``.

    Args:
        sde: Forward process.
        num_steps: Number of solver steps.
        grid: ``uniform`` in ``t``; ``logsnr``, uniform in ``log(α/σ)``; ``edm``, uniform in
            ``(σ/α)^{1/7}`` (Karras et al., arXiv 2206.00364, equation 5).

    Returns:
        Decreasing times, ``(num_steps + 1,)``, float64.
    """
    if num_steps < 1:
        raise ValueError(f"expected num_steps >= 1, got {num_steps}: set `sampling.num_steps`")
    if grid not in get_args(Grid):
        raise ValueError(f"expected a grid of {', '.join(get_args(Grid))}, got {grid!r}: set `sampling.grid`")
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
