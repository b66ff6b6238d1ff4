"""Noise that belongs to a sample's index, whatever batch, device or order it is computed in.

Samples are dealt into aligned blocks of ``BLOCK`` indices. Each block has a generator of its own, seeded by
``(seed, stream, block)``, and draws for all of its samples, wanted or not. So sample ``i`` of seed ``s`` meets
the same numbers in every batch, with one call to the generator for many samples and many steps.

CPU and GPU generators differ: the same seed gives other samples on another type of device.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

SOLVER_STREAM, PROBE_STREAM, CONSTRAINT_STREAM = 0, 1, 2
"""Streams of the same samples that have different numbers."""

BLOCK = 16
"""Samples that share a generator. Part of what a seed means: changing it changes all samples."""

NUMBERS = torch.float32
"""Precision that is drawn in. Part of what a seed means."""

CHUNK = 16
"""Draws made at once, so that the cost of a call is shared by many steps. Part of what a seed means, too."""

Numbers = Sequence[tuple[int, int]]
"""Which samples, as runs ``(first, count)`` of indices."""


def block_seed(seed: int, stream: int, block: int) -> int:
    """Mix the parts of a generator's name into a 63-bit seed."""
    return int(np.random.SeedSequence((seed, stream, block)).generate_state(1, np.uint64)[0] >> np.uint64(1))


def normal_stream(
    seed: int,
    first: int | Numbers,
    shape: tuple[int, int, int],
    device: torch.device | str,
    stream: int = SOLVER_STREAM,
) -> Iterator[Tensor]:
    """Yield standard normal tensors ``(B, K, F)`` without end, for samples ``first ... first + B - 1``.

    Args:
        seed: Seed of the run, at least 0.
        first: Index of the first sample; or runs of indices, ``B`` in all.
        shape: ``(B, K, F)``.
        device: Where to draw.
        stream: What the numbers are for.

    Yields:
        Tensors of ``shape``, in PyTorch's default precision.
    """
    if seed < 0:
        raise ValueError(f"expected seed >= 0, got {seed}: set `sampling.seed`")
    count, *token_shape = shape
    if not isinstance(first, int) and len(first) == 1:
        first = first[0][0]
    if not isinstance(first, int):
        runs = [normal_stream(seed, start, (size, shape[1], shape[2]), device, stream) for start, size in first]
        while True:
            yield torch.cat([next(run) for run in runs])
    blocks = range(first // BLOCK, (first + count - 1) // BLOCK + 1)
    generators = [torch.Generator(device).manual_seed(block_seed(seed, stream, b)) for b in blocks]
    skip = first - BLOCK * blocks[0]
    while True:
        # Never in the default precision: a generator gives other numbers in each.
        drawn = [
            torch.randn(CHUNK, BLOCK, *token_shape, generator=g, device=device, dtype=NUMBERS) for g in generators
        ]
        yield from torch.cat(drawn, dim=1)[:, skip : skip + count].to(torch.get_default_dtype()).unbind()
