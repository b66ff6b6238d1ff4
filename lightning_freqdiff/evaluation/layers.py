"""What `calibrate` learns of single layers: what it does to the output if they add what they added before."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from lightning_freqdiff.condition import Condition
from lightning_freqdiff.diffusion.score import Score
from lightning_freqdiff.evaluation.teacher import Paths

GAPS = 1, 3
"""Steps of the teacher over which layers repeat themselves: those of a run of 60 steps, and of one of 20."""
STRIDE = 4
"""Steps of the teacher from one place to the next at which it is measured."""
MOST = 64
"""Samples that it is measured on."""


@torch.no_grad()
def skip_products(score: Score, paths: Paths) -> dict[str, Tensor]:
    """Measure how the errors of layers that repeat their past go together.

    Args:
        score: The model.
        paths: What a teacher did.

    Returns:
        What :class:`~lightning_freqdiff.caching.L2C` works with, by its name in a calibration.
    """
    samples = slice(min(MOST, paths.tokens.shape[1]))
    known = paths.condition.take(samples) if paths.condition.count else paths.condition
    places = list(range(GAPS[-1], len(paths.times) - 1, STRIDE))
    products = []
    for gap in GAPS:
        for now in places:
            (before, after) = ((paths.tokens[i, samples], float(paths.times[i])) for i in (now - gap, now))
            products.append(_products(score, before, after, known))
    layers = len(score.network.layers)
    return {
        "l2c.times": paths.times.clone(),
        "l2c.places": torch.tensor(places, dtype=torch.float64),
        "l2c.gaps": torch.tensor(GAPS, dtype=torch.float64),
        "l2c.products": torch.stack(products).view(len(GAPS), len(places), layers, layers),
    }


def _products(score: Score, before: tuple[Tensor, float], after: tuple[Tensor, float], known: Condition) -> Tensor:
    """Return the mean products of the errors of each layer's repetition, ``(L, L)``, float64."""
    past = _added(score, *before, known)
    exact = _predicted(score, *after, known, {})
    errors = [_predicted(score, *after, known, {i: added}) - exact for i, added in enumerate(past)]
    rows = torch.stack(errors).flatten(1).double()
    return (rows @ rows.T / (len(exact) * (score.noise_scale > 0).sum())).cpu()


def _added(score: Score, z: Tensor, t: float, known: Condition) -> list[Tensor]:
    """Return what each layer adds to its input."""
    h, context = score.embed(z, time := z.new_tensor(t), score.coefficients(time), known)
    added = []
    for i in range(len(score.network.layers)):
        out = score.network.in_chunks(partial(score.network.block, i), h, context)
        added.append(out - h)
        h = out
    return added


def _predicted(score: Score, z: Tensor, t: float, known: Condition, past: dict[int, Tensor]) -> Tensor:
    """Return the noise prediction where some layers add the past."""
    network, time = score.network, z.new_tensor(t)
    h, context = score.embed(z, time, c := score.coefficients(time), known)
    for i in range(len(network.layers)):
        h = h + past[i] if i in past else network.in_chunks(partial(network.block, i), h, context)
    return score.eps(network.head(h, context), z, c)
