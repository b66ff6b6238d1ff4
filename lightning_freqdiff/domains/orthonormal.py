"""Real orthonormal transforms made of plane rotations: exact for every length, nothing wrapped around the ends."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn

from lightning_freqdiff.domains.base import Transform

SHORT = 1024
"""Steps up to which a transform is one product with its matrix, which is faster than its parts in turn."""


class Constant(nn.Module):
    """Numbers that go to a device in float32, as some know no float64, and are exact for float64 all the same.

    They are no buffer, since averages of weights are taken of buffers, too, and would wear them off.

    Args:
        value: The numbers, float64 on the CPU; or indices.
    """

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.exact = value
        self.value = value.float() if value.is_floating_point() else value

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        self.value = fn(self.value)
        return self

    def like(self, x: Tensor) -> Tensor:
        """Return them in the precision and on the device of ``x``."""
        return self.exact.to(x.device) if x.dtype == torch.float64 else self.value.to(x)


class Rotations(nn.Module):
    """Rotations of pairs of steps, ``(a, b)`` to ``(c a + s b, c b - s a)``; all other steps stay as they are.

    Args:
        length: Steps.
        first: Steps ``a``, ``(p,)``.
        second: Steps ``b``, ``(p,)``; no step is in two pairs.
        cosine: ``c``, ``(p,)``, float64.
        sine: ``s``, ``(p,)``, float64.
    """

    def __init__(self, length: int, first: Tensor, second: Tensor, cosine: Tensor, sine: Tensor) -> None:
        super().__init__()
        partner, own = torch.arange(length), torch.ones(length, 1, dtype=torch.float64)
        partner[first], partner[second] = second, first
        other = torch.zeros_like(own)
        own[first, 0], own[second, 0], other[first, 0], other[second, 0] = cosine, cosine, sine, -sine
        self.partner, self.own, self.other = Constant(partner), Constant(own), Constant(other)

    def forward(self, x: Tensor) -> Tensor:
        """Rotate steps ``(B, N, C)``."""
        return self.own.like(x) * x + self.other.like(x) * x.index_select(1, self.partner.value)

    def inverse(self, x: Tensor) -> Tensor:
        """Rotate back."""
        return self.own.like(x) * x - self.other.like(x) * x.index_select(1, self.partner.value)


class Orthonormal(Transform):
    """A transform whose parts :meth:`analyse` and :meth:`synthesise` run in turn, and short ones at once.

    A subclass gives both, and calls :meth:`settle` when it is ready for them.
    """

    matrix: Constant | None

    def settle(self, length: int) -> None:
        """Keep the matrix ``(tokens * parts, N)``, where it is small."""
        self.matrix = None
        if length <= SHORT:
            identity = torch.eye(length, dtype=torch.float64).unsqueeze(0)
            self.matrix = Constant(self.analyse(identity).squeeze(0))

    @abstractmethod
    def analyse(self, x: Tensor) -> Tensor:
        """Return coordinates ``(B, tokens * parts, C)`` of series ``(B, N, C)``."""

    @abstractmethod
    def synthesise(self, y: Tensor) -> Tensor:
        """Return series of coordinates."""

    def forward(self, x: Tensor) -> Tensor:
        """Lay out coordinates as tokens."""
        with torch.autocast(x.device.type, enabled=False):  # no transform is made in bfloat16
            y = self.analyse(x) if self.matrix is None else self.matrix.like(x) @ x
        return y.unflatten(1, (self.tokens, self.parts)).flatten(2)

    def inverse(self, z: Tensor) -> Tensor:
        """Go back from tokens."""
        y = z.unflatten(2, (self.parts, -1)).flatten(1, 2)
        with torch.autocast(z.device.type, enabled=False):
            return self.synthesise(y) if self.matrix is None else self.matrix.like(y).T @ y
