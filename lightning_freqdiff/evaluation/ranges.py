"""What `calibrate` learns of the inputs of layers: between which ends integers of eight bits tell them best."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn

from lightning_freqdiff.diffusion.score import Score
from lightning_freqdiff.evaluation.teacher import Paths
from lightning_freqdiff.networks.low_bit import LEVELS, RANGE, SHRINK, grid, quantizable

TIMES = 20
"""Times at which inputs are looked at, as many as Q-Diffusion's (arXiv 2302.04304)."""
KEPT = 8192
"""Numbers of an input that are drawn at each of them, or a few more: each chunk of a batch gives its share."""


@torch.no_grad()
def input_ranges(score: Score, paths: Paths) -> dict[str, Tensor]:
    """Find the ends of every layer's input along trajectories.

    The error of rounding and cutting off is taken over all times, at each relative to the size of the input then: at
    some times a layer sees little, and that is not to count for less (the ranges of TCAQ-DM, arXiv 2412.16700, are
    weighted over time, too, by weights that are learnt).

    Args:
        score: The model.
        paths: What a teacher did.

    Returns:
        The lower and the upper end, ``(2,)``, by the layer's name in a calibration; of layers that see features of
        every place, and not one vector for a whole sample.
    """
    network, samples = score.network, paths.tokens.shape[1]
    generator = torch.Generator().manual_seed(0)
    drawn: dict[str, list[Tensor]] = {}  # at one time, chunk by chunk
    kept: dict[str, list[Tensor]] = {}

    def look(name: str, module: nn.Module, given: tuple[Tensor, ...]) -> None:
        (x,) = given
        if x.ndim > 2:
            share = math.ceil(KEPT * len(x) / samples)
            places = torch.randint(x.numel(), (share,), generator=generator)
            drawn.setdefault(name, []).append(x.flatten()[places.to(x.device)].float().cpu())

    hooks = [m.register_forward_pre_hook(partial(look, name)) for name, m in quantizable(network).items()]
    try:
        places = torch.linspace(0, len(paths.times) - 2, min(TIMES, len(paths.times) - 1)).round().long().tolist()
        for place in places:
            z = paths.tokens[place]
            drawn.clear()
            score(z, paths.times[place].to(z), paths.condition)
            for name, chunks in drawn.items():
                kept.setdefault(name, []).append(torch.cat(chunks))
    finally:
        for hook in hooks:
            hook.remove()
    return {f"{RANGE}{name}": best_ends(torch.stack(values)) for name, values in kept.items()}


def best_ends(values: Tensor) -> Tensor:
    """Return the ends with the least error, ``(2,)``, of numbers at several times, ``(times, n)``."""
    ends = torch.stack([values.min().clamp(max=0), values.max().clamp(min=0)])
    size = values.square().mean(1).clamp(min=1e-24)

    def error(share: float) -> float:
        scale, zero = grid(*(share * ends).tolist())
        told = torch.fake_quantize_per_tensor_affine(values, scale, zero, 0, LEVELS)
        return float(((told - values).square().mean(1) / size).mean())

    return (min(SHRINK, key=error) * ends).double()
