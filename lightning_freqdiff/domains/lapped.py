"""A lapped transform: a token is a stretch of time, its features are what oscillates there.

It is the modified discrete cosine transform with the sine window (Princen and Bradley 1986; Malvar 1992):
neighbouring blocks overlap, and each sample of an overlap is rotated with its mirror image at the border, so that
what goes into the one block is even there and what goes into the other is odd; then comes a cosine transform of each
block (type IV; type II for the last, so that a level does not ring at the end). All steps are orthonormal: with
blocks that differ by a step where they must, and no overlap beyond the ends, the whole is so for every length.

Not a short-time Fourier transform, as of ST-Diff and ImagenTime (arXiv 2410.19538): that has more coefficients than
the series has steps. White noise becomes correlated among them, most arrays of coefficients belong to no series, and
a model has to learn which do. Here ``N`` steps are ``N`` independent numbers under white noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_freqdiff.domains.base import Domain
from lightning_freqdiff.domains.orthonormal import Constant, Orthonormal, Rotations


@dataclass(frozen=True)
class Lapped(Domain):
    """Lapped cosine transform: a token is a block of steps, its features are the block's frequencies.

    A shape is the pattern of one block's features, and where it is a question of few tokens; a token for each block
    and frequency would make ``N`` of them, whose neighbours a network had to find first.

    Args:
        block: Steps of a block, about; more see longer waves and less of when they are.
    """

    block: int = 16

    def __post_init__(self) -> None:
        if self.block < 1:
            raise ValueError(f"expected blocks of at least 1 step, got {self.block}: set `model.domain.block`")

    def build(self, length: int) -> LappedTransform:
        """Make the transform, of blocks that are as equal as they can be."""
        return LappedTransform(length, max(1, round(length / self.block)))

    def __str__(self) -> str:
        """Return the name."""
        return f"lapped {self.block}"


class LappedTransform(Orthonormal):
    """Rotations at the borders of blocks, then a cosine transform of each.

    Args:
        length: Steps of the series, ``N``.
        blocks: Blocks; the first ones are a step longer where they do not divide the length.
    """

    def __init__(self, length: int, blocks: int) -> None:
        short, longer = divmod(length, blocks)
        super().__init__(blocks, short + (longer > 0))
        sizes = [short + (j < longer) for j in range(blocks)]
        borders = torch.tensor(sizes).cumsum(0)[:-1]
        self.overlap = _overlap(length, borders, short // 2)
        waves = torch.zeros(blocks, self.parts, self.parts, dtype=torch.float64)
        for j, size in enumerate(sizes):
            waves[j, :size, :size] = cosines(size, last=j == blocks - 1)
        self.waves = Constant(waves)
        live = torch.arange(self.parts) < torch.tensor(sizes).unsqueeze(1)
        places = torch.full((blocks, self.parts), length)
        places[live] = torch.arange(length)
        self.places, self.steps = Constant(places.flatten()), Constant(live.flatten().nonzero().flatten())
        self.settle(length)

    def noise_scale(self) -> Tensor:
        """Return 1, or 0 where a shorter block has no such frequency."""
        return (self.places.value < len(self.steps.value)).float().view(self.tokens, self.parts)

    def analyse(self, x: Tensor) -> Tensor:
        """Rotate, cut into blocks, and transform each; a shorter block has a zero at its end."""
        cut = F.pad(self.overlap(x), (0, 0, 0, 1)).index_select(1, self.places.value)
        return (self.waves.like(x) @ cut.unflatten(1, (self.tokens, -1))).flatten(1, 2)

    def synthesise(self, y: Tensor) -> Tensor:
        """Transform each block back, put them behind each other, and rotate back."""
        cut = (self.waves.like(y).mT @ y.unflatten(1, (self.tokens, -1))).flatten(1, 2)
        return self.overlap.inverse(cut.index_select(1, self.steps.value))


def cosines(size: int, last: bool) -> Tensor:
    """Return the orthonormal cosine transform, even at its start; odd at its end (type IV), or even (II, ``last``).

    Returns:
        Shape ``(size, size)``, one wave a row, float64.
    """
    step = torch.arange(size, dtype=torch.float64) + 0.5
    wave = step.unsqueeze(1) - (0.5 if last else 0.0)
    waves = torch.cos(math.pi / size * wave * step)
    return waves / waves.norm(dim=1, keepdim=True)


def _overlap(length: int, borders: Tensor, half: int) -> Rotations:
    """Make the rotations of the ``half`` steps on either side of each border with their mirror images."""
    away = torch.arange(half)
    angle = math.pi / 2 * (half + away.double() + 0.5) / max(1, 2 * half)  # of the sine window
    after, before = borders.unsqueeze(1) + away, borders.unsqueeze(1) - 1 - away
    angles = angle.repeat(len(borders))
    return Rotations(length, after.flatten(), before.flatten(), angles.sin(), angles.cos())
