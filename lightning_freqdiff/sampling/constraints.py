"""Constraints: what must hold of the tokens after every solver step."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from lightning_freqdiff.condition import Condition
from lightning_freqdiff.sampling.solvers import Level
from lightning_freqdiff.spectral import Codec


class Constraint(ABC):
    """Moves tokens to where something holds, such as values that were observed."""

    @abstractmethod
    def apply(self, z: Tensor, level: Level, condition: Condition, codec: Codec, noise: Tensor) -> Tensor:
        """Return the tokens to go on with, ``(B, K, F)``.

        Args:
            z: Standardised tokens at ``level``, ``(B, K, F)``.
            level: Time, ``α`` and ``σ`` that a step has just reached.
            condition: What is known of the samples.
            codec: To series in the data's units and back.
            noise: Standard normal numbers of these samples, not yet scaled by ``Λ``, ``(B, K, F)``.
        """
