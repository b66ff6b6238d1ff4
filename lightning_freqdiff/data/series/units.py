"""Units of covariates: their mean and deviation over training series, which may lack values."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from lightning_freqdiff.vocabulary import Column


def columns_of(names: Sequence[str], batches: Iterable[Tensor]) -> tuple[Column, ...]:
    """Learn the units of covariates in one pass, merging batches by Chan, Golub and LeVeque's update.

    Args:
        names: Of the covariates.
        batches: Their values, `(B, N, C)`, NaN where there is none.
    """
    count = mean = moment = torch.zeros(len(names), dtype=torch.float64)
    for batch in batches:
        rows = batch.flatten(0, 1).double()
        here = (~rows.isnan()).sum(0)
        total = (count + here).clamp(min=1)
        own = rows.nansum(0) / here.clamp(min=1)
        moment = moment + (rows - own).square().nansum(0) + (own - mean).square() * (count * here / total)
        mean, count = mean + (own - mean) * (here / total), count + here
    deviation = (moment / count.clamp(min=1)).sqrt()
    units = zip(names, mean.tolist(), deviation.tolist(), strict=True)
    return tuple(Column(name, (), at, scale or 1.0) for name, at, scale in units)
