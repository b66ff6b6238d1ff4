"""Relative L2 distance between two sets of samples that were drawn from the same noise."""

from __future__ import annotations

import math

import torch
from torch import Tensor

RESAMPLES = 1000


def relative_l2(series: Tensor, uncached: Tensor) -> dict[str, float]:
    r"""Compute the distance to the uncached samples of the same noise.

    .. math:: \|x - y\| / \|y\|

    Args:
        series: Samples, ``(n, N, M)``.
        uncached: What they would be without a cache, ``(n, N, M)``, in the same order.

    Returns:
        ``relative_l2`` over all samples, with ``two_se`` (twice its standard error) and ``upper`` (95 % are below) by
        a bootstrap over samples; ``median`` and ``p99`` of the ratio per sample, since a few series in the tails can
        make most of it. Names begin with ``relative_l2_``; no units.

    Examples:
        >>> found = relative_l2(torch.full((2, 4, 1), 1.5), torch.ones(2, 4, 1))
        >>> found["relative_l2"], found["relative_l2_median"]
        (0.5, 0.5)
    """
    if series.shape != uncached.shape:
        raise ValueError(f"expected series of shape {tuple(uncached.shape)}, got {tuple(series.shape)}: set `series`")
    wrong, size = (x.double().flatten(1).square().sum(1) for x in (series - uncached, uncached))
    each = (wrong / size.clamp(min=1e-300)).sqrt()
    draws = torch.randint(len(each), (RESAMPLES, len(each)), generator=torch.Generator().manual_seed(0))
    again = (wrong.cpu()[draws].sum(1) / size.cpu()[draws].sum(1).clamp(min=1e-300)).sqrt()
    return {
        "relative_l2": float((wrong.sum() / size.sum().clamp(min=1e-300)).sqrt()),
        "relative_l2_two_se": 2 * float(again.std()) if len(each) > 1 else math.nan,
        "relative_l2_upper": float(again.quantile(0.95)),
        "relative_l2_median": float(each.median()),
        "relative_l2_p99": float(each.quantile(0.99)),
    }
