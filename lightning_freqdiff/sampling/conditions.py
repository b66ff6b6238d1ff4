"""What is known of each sample of a run, by its index."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lightning_freqdiff.condition import NOTHING, Condition
from lightning_freqdiff.sampling.noise import Numbers


class Conditions(ABC):
    """Says what is known of samples. A sample's condition depends on its index alone, as its noise does."""

    @abstractmethod
    def rows(self, first: int, count: int) -> Condition:
        """Return the condition of samples ``first ... first + count - 1``, on the CPU."""

    def numbers(self, first: int, count: int) -> Numbers:
        """Return the indices, in runs, under which these samples draw their noise: by default their own."""
        return [(first, count)]


@dataclass(frozen=True)
class Same(Conditions):
    """The same for all samples.

    Args:
        label: Class of the samples, from 0.
        static: Static covariates of the samples.
    """

    label: int | None = None
    static: list[float] | None = None

    def rows(self, first: int, count: int) -> Condition:
        """Repeat it."""
        label = None if self.label is None else torch.full((count,), self.label)
        static = None if self.static is None else torch.tensor(self.static).repeat(count, 1)
        return Condition(label=label, static=static)


MOST = 2**20
"""Samples of one series, at most. Sample ``i`` of series ``b`` has number ``b MOST + i``."""


class Given(Conditions):
    """Values observed of each of several series, of which so many samples are drawn each, one series after the other.

    Sample ``i`` of series ``b`` depends on the seed, on both numbers and on what is known of this series, and on
    nothing else.

    Args:
        values: Series ``(R, N, M)`` in the data's units, NaN where they are not known.
        num_samples: Samples of each.
        numbers: Numbers ``b`` of these series, if they are not all from 0.
        covariates: Covariates at every step of each series, ``(R, N, C)``.
        beside: What is known besides of every sample, by its place among all.
    """

    def __init__(
        self,
        values: Tensor,
        num_samples: int,
        numbers: Sequence[int] | None = None,
        covariates: Tensor | None = None,
        beside: Conditions | None = None,
    ) -> None:
        if not 1 <= num_samples <= MOST:
            raise ValueError(
                f"expected num_samples from 1 to {MOST:,}, got {num_samples}: set `sampling.num_samples`"
            )
        self.values, self.num_samples, self.covariates, self.beside = values, num_samples, covariates, beside
        self.series = list(range(len(values))) if numbers is None else list(numbers)

    def rows(self, first: int, count: int) -> Condition:
        """Return what is known of the series that the samples are of."""
        of = torch.arange(first, first + count) // self.num_samples
        known = NOTHING if self.beside is None else self.beside.rows(first, count)
        if self.covariates is not None:
            known = replace(known, covariates=self.covariates[of])
        mask = ~self.values[of].isnan()
        return replace(known, observed=self.values[of].nan_to_num(), mask=mask.to(self.values.dtype))

    def numbers(self, first: int, count: int) -> Numbers:
        """Return runs of samples of one series each."""
        runs, stop = [], first + count
        while first < stop:
            row, place = divmod(first, self.num_samples)
            size = min(stop - first, self.num_samples - place)
            runs.append((self.series[row] * MOST + place, size))
            first += size
        return runs

    def settings(self) -> dict[str, Any]:
        """Return what identifies them, as plain values."""
        digest = hashlib.sha256(self.values.numpy().tobytes())
        if self.covariates is not None:
            digest.update(self.covariates.numpy().tobytes())
        return {"given": digest.hexdigest()[:16], "num_samples": self.num_samples, "series": len(self.values)}
