"""Random directions, and samples projected on them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_freqdiff.metrics.samples import check_count, check_samples, widen
from lightning_freqdiff.metrics.wasserstein import chunks, sort_rows, spread, values_at_once

BLOCK = 64  # directions that share one generator


def random_directions(num: int, dim: int, seed: int = 0, first: int = 0) -> Tensor:
    """Draw directions uniformly on the unit sphere.

    Direction ``i`` of a seed is the same whichever others are drawn with it: each aligned block of 64 has
    a generator of its own, so that a rank draws only its share.

    Args:
        num: Number of directions.
        dim: Dimension of the space, ``D``.
        seed: Which directions.
        first: Number of the first direction.

    Returns:
        Unit vectors ``(num, dim)``, float32, on the CPU.

    Examples:
        >>> torch.equal(random_directions(5, 3, seed=1, first=100), random_directions(105, 3, seed=1)[100:])
        True
    """
    check_count(num, "num_directions")
    check_count(dim, "dim")
    check_count(seed, "seed", least=0)
    blocks = range(first // BLOCK, (first + num - 1) // BLOCK + 1)
    draws = [np.random.default_rng((seed, i)).standard_normal((BLOCK, dim), np.float32) for i in blocks]
    skip = first - blocks.start * BLOCK
    normal = torch.from_numpy(np.concatenate(draws)[skip : skip + num])
    return torch.nn.functional.normalize(normal, dim=1)


@dataclass(frozen=True)
class Projections:
    """Samples to be projected on the directions of a seed, and sorted, when they are asked for.

    Args:
        samples: Samples less ``center``, ``(n, D)``, float32.
        center: What was subtracted, ``(D,)``. A common shift changes no distance, and a large one would cost
            the projections their digits.
        seed: Which directions.
    """

    samples: Tensor
    center: Tensor
    seed: int

    @classmethod
    def of(cls, samples: Tensor, seed: int, center: Tensor | None = None) -> Projections:
        """Center samples ``(n, D)`` or ``(n, N, M)`` about ``center``, or else about their mean."""
        flat = widen(samples).flatten(1)
        center = flat.mean(0) if center is None else center.to(flat.device)
        return cls((flat - center).float(), center, seed)

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.samples)

    def along(self, directions: range) -> Tensor:
        """Return sorted projections, ``(len(directions), n)``; call within :func:`exact_matmul`."""
        u = random_directions(len(directions), self.samples.shape[1], self.seed, directions.start)
        return sort_rows(u.to(self.samples.device) @ self.samples.T)


@dataclass(frozen=True)
class SortedReference:
    """A reference whose projections are sorted once, for comparison with many generated sets.

    Holds ``num_directions * m`` float32 values: 400 MB for 10,000 samples along 10,000 directions.

    Examples:
        >>> from lightning_freqdiff.metrics import sliced_wasserstein
        >>> reference = SortedReference.build(torch.zeros(10, 3), num_directions=100)
        >>> sliced_wasserstein(torch.zeros(20, 3), reference, num_directions=100)["max"]
        tensor(0.)
    """

    sorted: Tensor
    center: Tensor
    seed: int

    @classmethod
    def build(cls, reference: Tensor, num_directions: int = 1000, seed: int = 0) -> SortedReference:
        """Project samples ``(m, D)`` or ``(m, N, M)`` on the first directions of a seed, and sort."""
        check_count(num_directions, "num_directions")
        lazy = Projections.of(check_samples(reference, "reference", ndim=(2, 3)), seed)
        size = values_at_once(reference.device) // len(lazy)
        with exact_matmul(reference.device):
            rows = spread(lazy.along, chunks(0, num_directions, size), reference.device)
        return cls(rows, lazy.center, seed)

    def __len__(self) -> int:
        """Return the number of samples."""
        return self.sorted.shape[1]

    def along(self, directions: range) -> Tensor:
        """Return sorted projections, ``(len(directions), m)``."""
        return self.sorted[directions.start : directions.stop]

    def check(self, generated: Tensor, directions: range, seed: int) -> None:
        """Raise a ``ValueError`` unless the directions asked for are held."""
        held, dim, wanted = len(self.sorted), len(self.center), generated[0].numel()
        if self.seed != seed or directions.stop > held or dim != wanted:
            raise ValueError(
                f"expected directions up to {directions.stop} of seed {seed} in {wanted} dimensions, got a "
                f"reference sorted along {held} of seed {self.seed} in {dim}: rebuild `reference`"
            )


@contextmanager
def exact_matmul(device: torch.device) -> Iterator[None]:
    """Multiply matrices in true float32 inside the context, whatever the training around it is set to.

    Autocast, or ``torch.set_float32_matmul_precision`` as Lightning advises for training, would otherwise
    round projections to 8 or 11 bits: 1e-3 relative, more than the differences to be measured. The settings
    are global, so threads share one context.
    """
    # The per-backend settings read and restore what the older global switch wrote; not the other way round.
    mkldnn: Any = torch.backends.mkldnn  # whose members type checkers do not see
    backends = (torch.backends.cuda.matmul, mkldnn.matmul)
    before = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = "ieee"
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision
