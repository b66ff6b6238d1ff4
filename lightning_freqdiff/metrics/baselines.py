"""Baselines that give a distance its meaning: what real data score, and what the poorest model does.

Each takes the distance as a function of ``(generated, reference)``, such as
``functools.partial(sliced_wasserstein, num_directions=10_000)``, and returns whatever that returns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from lightning_freqdiff.metrics.samples import check_count, check_least, check_samples

Value = TypeVar("Value")
Distance = Callable[[Tensor, Tensor], Value]


def self_baseline(train: Tensor, distance: Distance[Value], seed: int = 0) -> Value:
    """Compare a random half of the training set with the other half (Crabbé et al., arXiv 2402.05933).

    Both sides are smaller than in an evaluation, so the value is larger than :func:`floor`.

    Args:
        train: Training series, ``(m, N, M)``, or vectors, ``(m, D)``; at least two.
        distance: Function of ``(generated, reference)``.
        seed: Which halves.

    Examples:
        >>> train = torch.tensor([[1.0], [1.0], [1.0], [1.0]])
        >>> self_baseline(train, lambda a, b: (len(a), len(b)))
        (2, 2)
    """
    if len(check_samples(train, "train", ndim=(2, 3))) < 2:
        raise ValueError("expected at least 2 rows to halve, got 1: add rows to `train`")
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed)).to(train.device)
    half = len(train) // 2
    return distance(train[order[:half]], train[order[half:]])


def floor(train: Tensor, real: Tensor, count: int, distance: Distance[Value], seed: int = 0) -> tuple[Value, int]:
    """Compare as many real rows as there are generated samples with the training set.

    No generator can be expected to do better with as few samples, so this stands beside every figure. Rows are drawn
    without replacement: a row that came twice would tell nothing new, and the value would stop falling with the
    count. Where there are fewer rows than samples, all of them are taken; the figure to hold against the floor is
    then that of as many samples, not of all.

    Args:
        train: Training series, ``(m, N, M)``, or vectors, ``(m, D)``.
        real: Held-out rows of the same shape, ``(r, N, M)`` or ``(r, D)``.
        count: Number of generated samples.
        distance: Function of ``(generated, reference)``.
        seed: Which rows.

    Returns:
        The value, and the number of rows it was taken at, ``min(count, r)``.

    Examples:
        >>> floor(torch.randn(10, 4, 1), torch.randn(5, 4, 1), 25, lambda a, b: (len(a), len(b)))
        ((5, 10), 5)
    """
    check_count(count, "count")
    check_samples(train, "train", ndim=(2, 3))
    check_samples(real, "real", ndim=(train.ndim,))
    fresh = draw_fresh(real, count, seed)
    return distance(fresh, train), len(fresh)


def draw_fresh(real: Tensor, count: int, seed: int = 0) -> Tensor:
    """Draw the rows that :func:`floor` takes, without replacement; all where there are no more than ``count``."""
    rows = torch.randperm(len(real), generator=torch.Generator().manual_seed(seed))[:count]
    return real[rows.to(real.device)]


def bootstrap_floor(train: Tensor, count: int, distance: Distance[Value], seed: int = 0) -> Value:
    """Compare a bootstrap of the training set, rows drawn with replacement, with the training set itself.

    For want of held-out rows, and no :func:`floor`: such rows are samples of the training set, not of what it was
    drawn from, so the value lacks the training set's own error. For Gaussian series it was 0.34 to 0.78 of what
    fresh rows score.

    Args:
        train: Training series, ``(m, N, M)``, or vectors, ``(m, D)``.
        count: Number of generated samples.
        distance: Function of ``(generated, reference)``.
        seed: Which rows.

    Examples:
        >>> bootstrap_floor(torch.randn(10, 4, 1), 25, lambda a, b: (len(a), len(b)))
        (25, 10)
    """
    check_count(count, "count")
    check_samples(train, "train", ndim=(2, 3))
    rows = torch.randint(len(train), (count,), generator=torch.Generator().manual_seed(seed))
    return distance(train[rows.to(train.device)], train)


def dummy_baseline(train: Tensor, distance: Distance[Value]) -> Value:
    """Compare the training mean, as the only sample, with the training set (Crabbé et al., arXiv 2402.05933).

    Args:
        train: Training series, ``(m, N, M)``, or vectors, ``(m, D)``.
        distance: Function of ``(generated, reference)``.

    Examples:
        >>> from lightning_freqdiff.metrics import wasserstein_1d
        >>> dummy_baseline(torch.tensor([[1.0], [3.0], [1.0], [3.0]]), wasserstein_1d)
        tensor([1.])
    """
    check_samples(train, "train", ndim=(2, 3))
    return distance(train.mean(0, keepdim=True), train)


def sample_gaussian(train: Tensor, count: int, seed: int = 0) -> Tensor:
    """Draw from the Gaussian that has the training set's mean and covariance: the linear model, sampled exactly.

    What a generator must beat to have learnt more than which steps and channels go together. Costs the
    eigenvectors of the covariance, or where that is cheaper, a random mixture of all training rows for each sample,
    which has the same distribution.

    Args:
        train: Training series, ``(m, N, M)``, or vectors, ``(m, D)``; at least two.
        count: Number of samples.
        seed: Which samples.

    Returns:
        Samples ``(count, N, M)`` or ``(count, D)``, float32, on the CPU.

    Examples:
        >>> x = sample_gaussian(torch.tensor([[0.0, 1.0], [2.0, 3.0]]), 10_000)  # along the diagonal only
        >>> x.mean(0).round(decimals=1).tolist(), bool((x[:, 1] - x[:, 0] - 1).abs().max() < 1e-5)
        ([1.0, 2.0], True)
    """
    check_least(train, "train", 2, (2, 3))
    check_count(count, "count")
    rows = train.detach().cpu().flatten(1).double()
    mean, size = rows.mean(0), rows.shape[1]
    centred, random = rows - mean, torch.Generator().manual_seed(seed)
    if len(rows) < size or count * len(rows) < size**2:
        mixed = torch.randn(count, len(rows), generator=random, dtype=torch.float64) @ centred / len(rows) ** 0.5
    else:
        values, vectors = torch.linalg.eigh(centred.T @ centred / len(rows))
        mixed = (torch.randn(count, size, generator=random).double() * values.clamp(min=0).sqrt()) @ vectors.T
    return (mean + mixed).float().view(count, *train.shape[1:])
