"""Orthonormal wavelets: a token is a coefficient, the slowest first.

A level of a wavelet transform with ``2K`` taps is ``K`` layers of rotations of neighbours, between which the pairs
move on by one step (Evenbly and White, arXiv 1602.01166; the lattice of Vaidyanathan and Hoang 1988). Where a pair
would reach over an end of the series its step stays alone: so there is nothing to wrap around, pad or cut off, and a
level of ``n`` steps is exactly orthonormal for every ``n``, even or odd, ``⌈n/2⌉`` approximations and ``⌊n/2⌋``
details. The last layer rotates each pair so that nothing of a constant goes into the detail. Inside a series that is
the rotation of the wavelet itself; at the ends, and where an odd step was left over, it is what keeps a constant
series in a single coefficient. With Haar it is the unbalanced Haar transform (Girardi and Sweldens 1997).

Diffusion of wavelet coefficients: WaveletDiff, arXiv 2510.11839, with periodic ends; here a trend makes no jump
there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from pywt import Wavelet as Filter  # pyright: ignore[reportAttributeAccessIssue]
from pywt import wavelist  # pyright: ignore[reportAttributeAccessIssue]
from torch import Tensor, nn

from lightning_freqdiff.domains.base import Domain
from lightning_freqdiff.domains.orthonormal import Orthonormal, Rotations


@dataclass(frozen=True)
class Wavelet(Domain):
    """Wavelets: a token is a coefficient, ordered from slow to fast.

    Args:
        filter: Name of an orthonormal wavelet of PyWavelets: haar is sharpest in time, db4 and sym8 are smoother and
            sharper in frequency.
    """

    filter: str = "db4"

    def __post_init__(self) -> None:
        if self.filter not in wavelist(kind="discrete") or not Filter(self.filter).orthogonal:
            raise ValueError(
                f"expected an orthonormal wavelet such as haar, db4, sym8 or coif2, got {self.filter!r}: set "
                "`model.domain.filter`"
            )

    def build(self, length: int) -> WaveletTransform:
        """Make the transform, with as many levels as the length has room for."""
        return WaveletTransform(length, lattice(Filter(self.filter).dec_lo))

    def __str__(self) -> str:
        """Return the name."""
        return f"wavelet {self.filter}"


def lattice(lowpass: list[float]) -> list[float]:
    """Return the angles of all layers but the last, whose product with it is an orthonormal low-pass filter.

    A rotation of its outermost taps takes off one tap at each end: both by the same angle, as the filter is
    orthogonal to itself moved by as many steps.

    Examples:
        >>> import pywt
        >>> [round(angle / math.pi, 4) for angle in lattice(pywt.Wavelet("db2").dec_lo)]
        [-0.8333]
        >>> lattice(pywt.Wavelet("haar").dec_lo)
        []
    """
    taps, angles = torch.tensor(lowpass, dtype=torch.float64), []
    while len(taps) > 2:
        a, b = taps.view(-1, 2).unbind(1)
        # The angle of the heavier end: the other's digits may be few.
        first, last = (a[0], b[0]), (b[-1], -a[-1])
        sine, cosine = max(first, last, key=lambda pair: math.hypot(*pair))
        angles.append(-math.atan2(sine, cosine))
        c, s = math.cos(angles[-1]), math.sin(angles[-1])
        taps = torch.stack([c * a + s * b, c * b - s * a], dim=1).flatten()[1:-1]
    return angles


class WaveletTransform(Orthonormal):
    """Levels of rotations, each on the approximations of the one before.

    Args:
        length: Steps of the series, ``N``.
        angles: Angles of all layers of a level but the last.
    """

    def __init__(self, length: int, angles: list[float]) -> None:
        super().__init__(length, 1)
        self.levels = nn.ModuleList()
        constant, bands = torch.ones(1, length, 1, dtype=torch.float64), []
        while constant.shape[1] > 1:
            level = nn.ModuleList()
            for number, angle in enumerate([*angles, None]):
                rotations = _layer(constant, (len(angles) - number) % 2, angle)
                constant = rotations(constant)
                level.append(rotations)
            self.levels.append(level)
            # An octave from half to all of the highest frequency at this level.
            bands.append(torch.full((constant.shape[1] // 2,), 0.375 / 2 ** len(bands), dtype=torch.float64))
            constant = constant[:, ::2]
        self.frequencies = torch.cat([torch.zeros(1, dtype=torch.float64), *reversed(bands)])
        self.sizes = [1, *map(len, reversed(bands))]
        self.settle(length)

    def analyse(self, x: Tensor) -> Tensor:
        """Split approximations again and again."""
        details = []
        for level in self.levels:
            for rotations in cast(nn.ModuleList, level):
                x = rotations(x)
            x, detail = x[:, ::2], x[:, 1::2]
            details.append(detail)
        return torch.cat([x, *reversed(details)], dim=1)

    def synthesise(self, y: Tensor) -> Tensor:
        """Join them again."""
        x, *details = y.split(self.sizes, dim=1)
        for level, detail in zip(reversed(self.levels), details, strict=True):
            joined = x.new_empty(len(x), x.shape[1] + detail.shape[1], x.shape[2])
            joined[:, ::2], joined[:, 1::2] = x, detail
            x = joined
            for rotations in reversed(cast(nn.ModuleList, level)):
                x = cast(Rotations, rotations).inverse(x)
        return x


def _layer(constant: Tensor, offset: int, angle: float | None) -> Rotations:
    """Make a layer of rotations of neighbours.

    Args:
        constant: What a constant series has become so far, ``(1, n, 1)``.
        offset: First step of the first pair.
        angle: Angle of the rotations; for ``None`` each is such that only its first step keeps any of the constant.
    """
    length = constant.shape[1]
    first = torch.arange(offset, length - 1, 2)
    if angle is not None:
        turns = torch.full((len(first),), angle, dtype=torch.float64)
    else:
        turns = torch.atan2(constant[0, first + 1, 0], constant[0, first, 0])
    return Rotations(length, first, first + 1, turns.cos(), turns.sin())
