"""How much each sample counts in a sliced Wasserstein distance: what its error over samples is made of.

The distance of few samples is moved by their luck far more than by the choice of directions. Weighing one sample a
little more changes the squared distance along a direction by the Kantorovich potential there, which for one dimension
is known in closed form; distances of samples are normal about their mean with the variance of these potentials
(del Barrio and Loubes, "Central limit theorems for empirical transportation cost in general dimension", Annals of
Probability 2019). Influences of two sets that share their noise are paired: shared luck leaves their difference.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_freqdiff.metrics.projections import Projections, SortedReference, exact_matmul, random_directions
from lightning_freqdiff.metrics.samples import check_samples
from lightning_freqdiff.metrics.wasserstein import chunks, sorted_wasserstein, values_at_once


@dataclass(frozen=True)
class Influence:
    """A sliced Wasserstein distance of order 2, and what each sample has to do with it.

    Args:
        distances: Along each direction, ``(k,)``.
        each: Change of their mean with the weight of each sample, ``(n,)``, of mean 0; in the units of the samples.
    """

    distances: Tensor
    each: Tensor

    @property
    def mean(self) -> float:
        """The distance."""
        return float(self.distances.double().mean())


def sliced_influence(generated: Tensor, reference: SortedReference, directions: range, seed: int = 0) -> Influence:
    """Compute the distances along a range of directions, and the influence of each sample on their mean.

    Args:
        generated: Samples, ``(n, D)`` or ``(n, N, M)``, at least 2.
        reference: Samples to compare with, sorted beforehand.
        directions: Which directions of the seed.
        seed: Which directions.
    """
    check_samples(generated, "generated", ndim=(2, 3))
    reference.check(generated, directions, seed)
    ours, n, m = Projections.of(generated, seed, reference.center).samples, len(generated), len(reference)
    total, parts = torch.zeros(n, dtype=torch.float64, device=ours.device), []
    # The quantile of the reference between two neighbours of the n samples; the mean of two where it jumps.
    below = torch.arange(1, n) * m
    left, right = ((below + n - 1) // n - 1).to(ours.device), (below // n).clamp(max=m - 1).to(ours.device)
    with exact_matmul(ours.device):
        for part in chunks(directions.start, directions.stop, values_at_once(ours.device) // (n + m)):
            u = random_directions(len(part), ours.shape[1], seed, part.start).to(ours.device)
            a, order = (u @ ours.T).sort(dim=1)
            b = reference.along(part).to(ours.device)
            distance = sorted_wasserstein(a, b, 2)
            between = (b[:, left] + b[:, right]) / 2
            rises = (a[:, 1:] - a[:, :-1]) * (a[:, 1:] + a[:, :-1] - 2 * between)
            potential = torch.nn.functional.pad(rises.double().cumsum(1), (1, 0))
            potential = (potential - potential.mean(1, keepdim=True)) / (2 * distance.clamp(min=1e-30).unsqueeze(1))
            total += torch.zeros_like(potential).scatter_(1, order, potential).sum(0)
            parts.append(distance)
    return Influence(torch.cat(parts), total / len(directions))


def relative_change(ours: Influence, base: Influence) -> tuple[float, float]:
    """Return the change of a distance relative to another, and its standard error.

    Samples at one place of both sets share their noise; where that makes them alike, so are their influences. Both
    distances are along the same directions. They are biased by the number of samples, which has to be the same.

    Args:
        ours: Of one set of ``n`` samples.
        base: Of the other, to which it is relative.
    """
    n, scale = len(ours.each), max(base.mean, 1e-300)
    ratio = ours.mean / scale
    moved = (ours.each - ratio * base.each) / scale
    turned = (ours.distances.double() - ratio * base.distances.double()) / scale
    error = math.sqrt(float(moved.var()) / n + float(turned.var()) / len(turned)) if n > 1 else math.nan
    return ratio - 1, error
