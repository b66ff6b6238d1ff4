"""What is known of each sample of a run, by its index."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch

from lightning_freqdiff.condition import Condition
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
