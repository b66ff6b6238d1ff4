"""What a jump over a stretch of sampling does to samples: what grids that fit the model are made of.

A grid of ``n`` steps is a way of ``n`` jumps from noise to data. A teacher of many steps goes it once, for some
hundred samples; what a jump from its time ``i`` to its time ``j`` would have done to them is known without a further
network call. Grids of few steps are then found by dynamic programming (``sampling/grids.py``), as in GITS
(Chen et al., "On the Trajectory Regularity of ODE-based Diffusion Sampling", arXiv 2405.11326). Two things differ:

- A jump is of second order, ``y_j = y_i + (r_j - r_i) Λ (eps_i + eps_j) / 2`` with ``y = z/α`` and ``r = σ/α``, as in
  the solvers that such grids are for. GITS jumps by Euler's method.
- Damage is what happens to the samples as a whole: the change of mean and deviation in every coordinate, in the
  data's units, as the linear part of the model carries it to the end. How far each sample is moved would count early
  jumps for too much: they decide which series comes out, and another one is as good.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_freqdiff.caching.local_error import local_error
from lightning_freqdiff.diffusion.score import Score
from lightning_freqdiff.evaluation.teacher import Paths


@torch.no_grad()
def jump_costs(score: Score, paths: Paths) -> Tensor:
    """Return the damage of every jump, ``(T + 1, T + 1)``, relative to the norm of a typical series.

    Args:
        score: The model.
        paths: What a teacher did.
    """
    times, path, eps, _ = paths
    alpha, ratio = score.sde.alpha(times).tolist(), (score.sde.sigma(times) / score.sde.alpha(times)).tolist()
    deviation = score.codec.variance.double().sqrt()
    carry = [deviation / score.coefficients(t.to(deviation.device)).total.double().squeeze(0) for t in times]
    costs = torch.full((len(times), len(times)), torch.inf, dtype=torch.float64)
    for j in range(1, len(times)):
        there, slope = path[j].double(), score.noise_scale * eps[j].double()
        deviations = there.std(0, correction=0)
        for i in range(j):
            middle = (slope + score.noise_scale * eps[i].double()) / 2
            jumped = alpha[j] * (path[i].double() / alpha[i] + (ratio[j] - ratio[i]) * middle)
            moved = torch.stack([(jumped - there).mean(0), jumped.std(0, correction=0) - deviations])
            costs[i, j] = local_error(score, carry[j] * moved).norm()
    return costs
