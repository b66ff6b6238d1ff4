"""Memorisation and privacy: are generated series copies of training series, or nearer to them than fresh ones are?"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_freqdiff.metrics.nearest import nearest_rows
from lightning_freqdiff.metrics.post_hoc import standardize
from lightning_freqdiff.metrics.samples import check_count, check_least, widen
from lightning_freqdiff.metrics.significance import more_than_before, rank_sum

LEAST = 10  # rows of each set
EXACT = 1e-6  # deviations, below which two rows are the same but for rounding
FRESH_SHARE = 5e-4  # of fresh rows may look like copies
NEAREST_SHARE = 0.5  # of the distance to any other training row: a copy is nearer than this, whatever the data
TAIL = 0.1  # of the fresh rows' ratios tell how rare small ones are
COPIES_SHARE = 0.8  # of the chance of a false alarm is spent on copies, the rest on general nearness


class Copy(NamedTuple):
    """A generated row beside the training row that it is nearest to.

    Attributes:
        generated: Which generated row.
        training: Which training row, the first of equal ones.
        distance: Between them, in training deviations (root mean square over steps and channels).
        exact: Whether they are the same but for rounding.
    """

    generated: int
    training: int
    distance: float
    exact: bool


@dataclass(frozen=True)
class Memorization:
    """What :func:`memorization` found; distances in training deviations, root mean square over steps and channels.

    Args:
        count: Number of generated rows.
        share_of_copies: Of generated rows that are exact or near copies.
        share_of_exact_copies: Of generated rows that are copies but for rounding.
        held_out_share_of_copies: Of held-out rows that would be called copies.
        copy_ratio: A near copy is closer to its training row than this share of the distance to the next.
        p_value: Of both tests together; small where something was memorised.
        p_copies: That fresh rows have as many copies.
        p_nearness: That fresh rows are as near in general.
        median_distance: Of generated rows to the closest training row.
        held_out_median_distance: Of held-out rows to the closest training row.
        membership_auc: How well the distance to the closest generated row tells training from held-out rows; 1/2 is
            not at all.
        copies: The exact and near copies, nearest first.
    """

    count: int
    share_of_copies: float
    share_of_exact_copies: float
    held_out_share_of_copies: float
    copy_ratio: float
    p_value: float
    p_copies: float
    p_nearness: float
    median_distance: float
    held_out_median_distance: float
    membership_auc: float
    copies: tuple[Copy, ...]

    def as_dict(self) -> dict[str, float]:
        """Return the numbers by name, without the list of copies."""
        return {name: value for name, value in asdict(self).items() if name != "copies"}


@dataclass(frozen=True)
class Nearness:
    """Rows' distance to the closest training row, its share of that to the next other one, and which, ``(n,)``."""

    distance: Tensor
    ratio: Tensor
    index: Tensor

    def exact(self) -> Tensor:
        """Return which rows are copies but for rounding."""
        return self.distance <= EXACT

    def near(self, ratio: float) -> Tensor:
        """Return which rows are near copies and no exact ones, at a largest ratio."""
        return (self.ratio <= ratio) & ~self.exact()


def memorization(generated: Tensor, train: Tensor, held_out: Tensor, most_fresh: int = 2000) -> Memorization:
    r"""Test whether generated series are copies of training series, or nearer to them than fresh real ones.

    A row is a near copy if it is far closer to one training row than to any other. With :math:`d_1, d_2` the
    distances to the two closest different training rows, :math:`d_1 / d_2` has a lower tail :math:`r^D` for data of
    intrinsic dimension ``D`` (Facco et al., Scientific Reports 7:12140). The tail is fitted (Hill, Annals of
    Statistics 1975) to fresh rows: held-out rows, and training rows with themselves left out. The largest ratio of a
    copy is where one fresh row in 2,000 has a smaller one, and never more than 1/2.

    The number of copies is compared with that among the fresh rows
    (:func:`~lightning_freqdiff.metrics.significance.more_than_before`); where the data have exact copies of their
    own, exact and near ones are compared apart. General nearness is a rank-sum test of :math:`d_1` between generated
    and held-out rows. ``p_value`` is the smaller of both, each divided by its share, 4/5 and 1/5, of the chance of a
    false alarm (Bonferroni).

    Fresh rows are to come as held-out rows do: under a split in time, both tests see the drift as well. Rows that lie
    as dense as the noise on a copy hide it. A generator of too little variety is nearer in general: read ``p_copies``
    and ``membership_auc`` there. Costs the distances between all rows: seconds of a core for a few thousand each.

    Args:
        generated: Series, ``(n, N, M)``, at least 10.
        train: What the generator was trained on, ``(m, N, M)``, at least 10, of which 3 differ.
        held_out: Real series that it was not trained on, ``(h, N, M)``, at least 10. Their number need not be ``n``.
        most_fresh: Training rows, evenly spaced, that stand for fresh ones, which bounds the cost.

    Returns:
        The finding, which does not depend on chance.

    Raises:
        ValueError: On too few rows, unequal shapes, NaN.

    Examples:
        >>> train, held_out, fresh = torch.randn(3, 200, 12, 1, generator=torch.Generator().manual_seed(0))
        >>> memorization(fresh, train, held_out).p_value > 0.05
        True
        >>> found = memorization(torch.cat([fresh[:-4], train[:4]]), train, held_out)
        >>> found.share_of_copies, [copy.training for copy in found.copies]
        (0.02, [0, 1, 2, 3])
    """
    _check(generated, train, held_out)
    check_count(most_fresh, "most_fresh", least=LEAST)
    real = widen(train).cpu()
    made, rows, fresh = (standardize(widen(x).cpu(), real).flatten(1) for x in (generated, train, held_out))
    ours, theirs, own = _nearness(made, fresh, rows, most_fresh)
    ratio = _copy_ratio(torch.cat([x.ratio[~x.exact()] for x in (theirs, own)]))
    p_copies = _more_copies(ours, theirs, own, ratio)
    p_nearness = rank_sum(ours.distance, theirs.distance)[1]
    membership = rank_sum(*(nearest_rows(x, made, 1)[0][:, 0] for x in (rows, fresh)))[0]
    return Memorization(
        count=len(made),
        share_of_copies=_share(ours.exact() | ours.near(ratio)),
        share_of_exact_copies=_share(ours.exact()),
        held_out_share_of_copies=_share(theirs.exact() | theirs.near(ratio)),
        copy_ratio=ratio,
        p_value=min(1.0, p_copies / COPIES_SHARE, p_nearness / (1 - COPIES_SHARE)),
        p_copies=p_copies,
        p_nearness=p_nearness,
        median_distance=float(ours.distance.median()),
        held_out_median_distance=float(theirs.distance.median()),
        membership_auc=membership,
        copies=_listed(ours, ours.exact() | ours.near(ratio)),
    )


def _nearness(made: Tensor, fresh: Tensor, rows: Tensor, most_fresh: int) -> tuple[Nearness, Nearness, Nearness]:
    """Return the nearness of generated, of held-out, and of training rows ``(n, D)`` with themselves left out."""
    different, which, times = rows.unique(dim=0, return_inverse=True, return_counts=True)
    if len(different) < 3:
        raise ValueError(f"expected at least 3 different series, got {len(different)}: add rows to `train`")
    first = torch.full((len(different),), len(rows)).scatter_reduce(0, which, torch.arange(len(rows)), "amin")
    unit = math.sqrt(rows.shape[1])

    def to_train(queries: Tensor) -> Nearness:
        distances, index = nearest_rows(queries, different, 2)
        return Nearness(distances[:, 0] / unit, distances[:, 0] / distances[:, 1], first[index[:, 0]])

    chosen = torch.linspace(0, len(rows) - 1, min(most_fresh, len(rows))).round().long()
    distances, index = nearest_rows(rows[chosen], different, 3)
    # The closest is the row itself, which stays where the training set has it twice.
    again = (times[which[chosen]] > 1).long()[:, None]
    near, next_near = (distances.gather(1, place - again)[:, 0] for place in (1, 2))
    itself = Nearness(near / unit, near / next_near, first[index.gather(1, 1 - again)[:, 0]])
    return to_train(made), to_train(fresh), itself


def _copy_ratio(ratios: Tensor) -> float:
    """Return the ratio below which one fresh row in 2,000 falls, by the lower tail of those seen ``(r,)``."""
    count = max(5, round(TAIL * len(ratios)))
    if len(ratios) <= count:
        return 0.0
    ordered = ratios.sort().values
    edge = float(ordered[count])
    # Two standard errors on the safe side, where the tail is heavier.
    logs = float((edge / ordered[:count]).log().sum())
    dimension = count / max(logs, 1e-12) * (1 - 2 / math.sqrt(count))
    return min(NEAREST_SHARE, edge * (FRESH_SHARE * len(ratios) / count) ** (1 / dimension))


def _more_copies(ours: Nearness, theirs: Nearness, own: Nearness, ratio: float) -> float:
    """Compute how likely fresh rows have as many copies as the generated have."""
    # Training rows that are near each other come in pairs, so they tell half as much as their number.
    fresh = len(theirs.ratio) + len(own.ratio) / 2
    exact, near = (
        [int(x.sum()) for x in found]
        for found in ([n.exact() for n in (ours, theirs, own)], [n.near(ratio) for n in (ours, theirs, own)])
    )
    if exact[1] + exact[2] == 0:
        return more_than_before(exact[0] + near[0], len(ours.ratio), near[1] + near[2] / 2, fresh, FRESH_SHARE)
    by_exact = more_than_before(exact[0], len(ours.ratio), exact[1] + exact[2] / 2, fresh)
    by_near = more_than_before(near[0], len(ours.ratio), near[1] + near[2] / 2, fresh, FRESH_SHARE)
    return min(1.0, 2 * min(by_exact, by_near))


def _share(rows: Tensor) -> float:
    return float(rows.double().mean())


def _listed(nearness: Nearness, copies: Tensor) -> tuple[Copy, ...]:
    rows, exact = copies.nonzero()[:, 0], nearness.exact()
    rows = rows[nearness.distance[rows].argsort(stable=True)]
    return tuple(Copy(i, int(nearness.index[i]), float(nearness.distance[i]), bool(exact[i])) for i in rows.tolist())


def _check(generated: Tensor, train: Tensor, held_out: Tensor) -> None:
    for name, series in (("train", train), ("generated", generated), ("held_out", held_out)):
        check_least(series, name, LEAST)
        if series.shape[1:] != train.shape[1:]:
            raise ValueError(
                f"expected series of (N, M) = {tuple(train.shape[1:])} as in `train`, got {tuple(series.shape[1:])}: "
                f"cut or resample `{name}`"
            )
