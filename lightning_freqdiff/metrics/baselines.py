"""Baselines that give a distance its meaning: what real data score, and what the poorest model does.

Each takes the distance as a function of ``(generated, reference)``, such as
``functools.partial(sliced_wasserstein, num_directions=10_000)``, and returns whatever that returns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from lightning_freqdiff.metrics.samples import check_count, check_samples

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


def floor(train: Tensor, count: int, distance: Distance[Value], real: Tensor | None = None, seed: int = 0) -> Value:
    """Compare as many real rows as there are generated samples with the training set.

    No generator can be expected to do better with as few samples, so this stands beside every figure.
    Without ``real``, rows are drawn from the training set with replacement: independent samples of the very
    distribution compared with. (Drawn without, a growing share of them would match exactly.)

    Args:
        train: Training series, ``(m, N, M)``, or vectors, ``(m, D)``.
        count: Number of generated samples.
        distance: Function of ``(generated, reference)``.
        real: Held-out rows to draw from instead, without replacement while there are enough of them.
        seed: Which rows.

    Examples:
        >>> floor(torch.randn(10, 4, 1), 25, lambda a, b: (len(a), len(b)))
        (25, 10)
    """
    check_count(count, "count")
    check_samples(train, "train", ndim=(2, 3))
    source = train if real is None else check_samples(real, "real", ndim=(train.ndim,))
    generator = torch.Generator().manual_seed(seed)
    if real is not None and count <= len(source):
        rows = torch.randperm(len(source), generator=generator)[:count]
    else:
        rows = torch.randint(len(source), (count,), generator=generator)
    return distance(source[rows.to(source.device)], train)


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
