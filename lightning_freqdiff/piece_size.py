"""How many samples a CPU runs through the network at once: found by a short measurement, and remembered.

A batch is worked out in pieces (``networks/pieces.py``). Large ones overflow the caches, small ones waste time
between operations, and what is best depends on processor, threads, network and precision. The rule that a network
starts with is a guess; a run that is worth it measures, once, and leaves the answer in ``pieces.json`` in the folder
of ``FREQDIFF_CACHE`` (or ``~/.cache/lightning_freqdiff``). Pieces change rounding and nothing else.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import cast

import torch

from lightning_freqdiff.data.readers.download import cache_root
from lightning_freqdiff.diffusion.score import Score
from lightning_freqdiff.files import replace_json
from lightning_freqdiff.networks.kernels.cpu import cast_once
from lightning_freqdiff.networks.transformer import TransformerBackbone
from lightning_freqdiff.reporting.hardware import processor
from lightning_freqdiff.sampling.loop import Sampling

CANDIDATES = (2, 4, 8, 16, 32, 64)
TRIED = 64
"""Samples of a trial."""

TRIED_BYTES = 2**25
"""Feed-forward activations of a piece that are still worth a trial: four times what fits any processor's caches."""

ROUNDS = 3
MOST = 2**20
"""Samples of a piece that are still believed when they are read."""

_measured: dict[tuple[Path, str], int] = {}
"""What this process measured, for where it cannot be written."""

WORTH = 20_000
"""Samples times steps of a run from which on a measurement pays: it takes as long as a thousand of them."""


def settle(score: Score, sampling: Sampling) -> None:
    """Set the size of pieces for a run: as remembered, else as measured where the run is long.

    Args:
        score: The model, ready to be sampled from at the precision in force.
        sampling: What is about to be drawn.
    """
    network = score.network
    if not isinstance(network, TransformerBackbone) or score.noise_scale.device.type != "cpu":
        return
    path, key = cache_root(None) / "pieces.json", _key(network)
    known = _read(path)
    if key not in known and (path, key) in _measured:
        known[key] = _measured[path, key]
    elif key not in known:
        if sampling.num_samples * sampling.num_steps < WORTH or sampling.batch_size <= CANDIDATES[0]:
            return
        known[key] = _measured[path, key] = measure(network)
        _write(path, known)
    network.cpu_piece = known[key]


@torch.no_grad()
@cast_once()
def measure(network: TransformerBackbone) -> int:
    """Time pieces of several sizes in turn and return the fastest; the present one, where none is clearly faster."""
    tokens, _, width, feedforward = network.sizes
    before, dtype = network.cpu_piece, next(network.parameters()).dtype
    sizes = {size for size in CANDIDATES if 4 * tokens * feedforward * size <= TRIED_BYTES} | {min(before, TRIED)}
    if len(sizes) == 1:
        return before
    h = torch.randn(TRIED, tokens, width, generator=torch.Generator().manual_seed(0), dtype=dtype)
    best = dict.fromkeys(sorted(sizes), float("inf"))
    try:
        network.blocks(h[:1])
        for _ in range(ROUNDS):
            for size in best:
                network.cpu_piece = size
                since = time.perf_counter()
                network.blocks(h)
                best[size] = min(best[size], time.perf_counter() - since)
    finally:
        network.cpu_piece = before
    fastest = min(best, key=best.__getitem__)
    return fastest if best[fastest] < 0.97 * best[min(before, TRIED)] else before


def _key(network: TransformerBackbone) -> str:
    low = torch.is_autocast_enabled("cpu")
    precision = str(torch.get_autocast_dtype("cpu") if low else next(network.parameters()).dtype)
    precision += ", compiled" * network.compiled
    heads = cast(int, network.layers[0].heads)
    about = (processor(), torch.get_num_threads(), torch.__version__, *network.sizes, heads, precision)
    return ", ".join(str(part) for part in about)


def _read(path: Path) -> dict[str, int]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    pairs = found.items() if isinstance(found, dict) else ()
    return {key: size for key, size in pairs if type(size) is int and 1 <= size <= MOST}


def _write(path: Path, known: dict[str, int]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_json(path, known)
    except OSError:
        pass  # measured again next time
