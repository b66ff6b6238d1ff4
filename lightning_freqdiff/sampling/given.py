"""Series of which some is known, of which samples are drawn."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from lightning_freqdiff.condition import NOTHING, Condition
from lightning_freqdiff.sampling.conditions import Conditions
from lightning_freqdiff.sampling.noise import Numbers
from lightning_freqdiff.vocabulary import Vocabulary

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
        if not isinstance(num_samples, Integral) or not 1 <= num_samples <= MOST:
            raise ValueError(
                f"expected num_samples from 1 to {MOST:,}, got {num_samples!r}: set `sampling.num_samples`"
            )
        self.values, self.num_samples, self.covariates, self.beside = values, num_samples, covariates, beside
        self.series = list(range(len(values))) if numbers is None else list(numbers)

    @property
    def count(self) -> int | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Of how many samples something is known besides."""
        return None if self.beside is None else self.beside.count

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

    def said_in(self, vocabulary: Vocabulary) -> Given:
        """Say what is known besides in the numbers of a model."""
        if self.beside is None:
            return self
        beside = self.beside.said_in(vocabulary)
        return Given(self.values, self.num_samples, self.series, self.covariates, beside)

    def settings(self) -> dict[str, Any]:
        """Return what identifies them, as plain values."""
        digest = hashlib.sha256(self.values.numpy().tobytes())
        if self.covariates is not None:
            digest.update(self.covariates.numpy().tobytes())
        given = {"given": digest.hexdigest()[:16], "num_samples": self.num_samples, "series": len(self.values)}
        return given if self.beside is None else {**given, "beside": self.beside.settings()}
