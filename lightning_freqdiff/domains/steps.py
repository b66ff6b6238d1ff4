"""Time steps as they are: the baseline of the papers of frequency diffusion."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lightning_freqdiff.domains.base import Domain, Transform


@dataclass(frozen=True)
class TimeSteps(Domain):
    """Time: a token is a step."""

    def build(self, length: int) -> Identity:
        """Make the transform."""
        return Identity(length, 1)

    def __str__(self) -> str:
        """Return the name."""
        return "time"


class Identity(Transform):
    """Steps as they are."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the series."""
        return x

    def inverse(self, z: Tensor) -> Tensor:
        """Return the series."""
        return z
