"""What every domain is: settings, and the transform that they make for series of some length."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class Transform(nn.Module, ABC):
    """Series of one length as tokens and back, channel by channel.

    A token holds a few numbers of every channel, its *parts*: all channels of the first, then all of the next.

    Args:
        tokens: Tokens of a series.
        parts: Numbers that a token holds of each channel.

    Attributes:
        frequencies: The frequency that each token stands for, in cycles per step, from 0 to a half and never less
            than that of the token before, ``(tokens,)``, float64; ``None`` where tokens are no frequencies.
    """

    frequencies: Tensor | None = None

    def __init__(self, tokens: int, parts: int) -> None:
        super().__init__()
        self.tokens, self.parts = tokens, parts

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Lay out series of any number of channels, ``(B, N, C)``, as tokens ``(B, tokens, parts * C)``."""

    @abstractmethod
    def inverse(self, z: Tensor) -> Tensor:
        """Bring tokens ``(B, tokens, parts * C)`` back to series ``(B, N, C)``."""

    def noise_scale(self) -> Tensor:
        """Return the deviation of white noise of unit variance in each part of each token, ``(tokens, parts)``."""
        return torch.ones(self.tokens, self.parts)

    def density(self, power: Tensor) -> Tensor | None:
        """Return the spectral density ``(N // 2 + 1, C)`` of mean squares ``(tokens, parts * C)``, if they tell."""
        return None


class Domain(ABC):
    """The settings of a domain: everything but the length of the series."""

    @abstractmethod
    def build(self, length: int) -> Transform:
        """Make the transform of series of ``length`` steps, from 2."""

    @abstractmethod
    def __str__(self) -> str:
        """Return its name, as it is told on cards and in messages."""
