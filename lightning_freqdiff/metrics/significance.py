"""How likely an observation is where nothing is the matter: ranks of two samples, and counts of rare events."""

from __future__ import annotations

import math

import torch
from torch import Tensor

PRIOR_SHAPE = 0.5  # of Jeffreys' prior of a rate


def rank_sum(a: Tensor, b: Tensor) -> tuple[float, float]:
    """Compare two samples by the Mann-Whitney test, one-sided: are values of ``a`` smaller than those of ``b``?

    Args:
        a: Values, ``(n,)``.
        b: Values, ``(m,)``.

    Returns:
        The share of pairs in which that of ``a`` is the smaller, equal ones counted half (an area under the ROC
        curve); and the p-value by the normal approximation with corrections for ties and continuity, good from about
        8 values on.

    Examples:
        >>> rank_sum(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 3.0]))[0]
        0.875
    """
    n, m = len(a), len(b)
    ordered, second = torch.cat([a, b]).sort().values, b.sort().values
    above = m - torch.searchsorted(second, a, right=True)
    equal = torch.searchsorted(second, a, right=True) - torch.searchsorted(second, a)
    wins = float(above.sum()) + float(equal.sum()) / 2
    ties = ordered.unique_consecutive(return_counts=True)[1].double()
    total = n + m
    variance = n * m / 12 * (total + 1 - float((ties**3 - ties).sum()) / (total * (total - 1)))
    if variance <= 0:  # all are the same
        return 0.5, 1.0
    z = (wins - n * m / 2 - 0.5) / math.sqrt(variance)
    return wins / (n * m), 0.5 * math.erfc(z / math.sqrt(2))


def more_than_before(
    count: int, trials: float, count_before: float, trials_before: float, expected: float | None = None
) -> float:
    """Compute the probability of at least as many rare events, given how many there were before.

    The rate has a Gamma prior of shape 1/2 (Jeffreys'), of mean ``expected`` if there is one, which the earlier
    trials update, so that the number of new events is negative binomial (Gelman et al., Bayesian Data Analysis,
    section 2.6). An exact conditional test cannot do better than ``(n / (n + m)) ** count`` where nothing was seen
    before, which for 5 events in 500 against none in 500 is 0.03.

    Args:
        count: Events now.
        trials: Trials now, ``n``.
        count_before: Events before.
        trials_before: Trials before, ``m``.
        expected: Rate to be expected before any trial, if anything speaks for one.

    Returns:
        The probability, 1 for no event.

    Examples:
        >>> more_than_before(0, 500, 0, 500, 1e-3)
        1.0
        >>> more_than_before(5, 500, 0, 500, 1e-3) < 0.002 < more_than_before(5, 500, 5, 500, 1e-3)
        True
    """
    if count == 0:
        return 1.0
    shape, weight = PRIOR_SHAPE + count_before, (PRIOR_SHAPE / expected if expected else 0) + trials_before
    again = trials / (weight + trials)
    mean = shape * trials / weight
    # Terms fall off by the factor `again` in the end.
    events = torch.arange(count, count + int(4 * mean + 60 / (1 - again)) + 100, dtype=torch.float64)
    log = torch.lgamma(events + shape) - math.lgamma(shape) - torch.lgamma(events + 1)
    log += shape * math.log1p(-again) + events * math.log(again)
    return min(1.0, float(log.exp().sum()))
