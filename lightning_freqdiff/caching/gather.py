"""Samples of a batch that are due, gathered into one call and put back."""

from __future__ import annotations

import torch
from torch import Tensor


def rows_of(due: list[bool], device: torch.device) -> Tensor | None:
    """Turn decisions into indices; ``None`` means all samples."""
    return None if all(due) else torch.tensor([b for b, yes in enumerate(due) if yes], device=device)


def take_rows(x: Tensor, rows: Tensor | None) -> Tensor:
    """Take the samples that are due; without a copy where all are."""
    return x if rows is None else x[rows]


def set_rows(x: Tensor, rows: Tensor | None, values: Tensor) -> Tensor:
    """Return ``x`` with the samples that were due replaced."""
    return values if rows is None else x.index_copy(0, rows, values.to(x.dtype))


def known_at(rows: Tensor | None, values: Tensor, samples: int) -> Tensor:
    """Return a value for every sample, ``(B,)``: NaN for those that were not due."""
    return set_rows(values.new_full((samples,), torch.nan), rows, values)
