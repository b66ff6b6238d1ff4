"""Precision and compilation of one way to sample, beside others in the same process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from lightning_freqdiff.module import ScoreModule

Precision = Literal["32-true", "bf16-mixed"]
"""Precisions of sampling, by the names that a trainer has for them."""


@contextmanager
def arithmetic(module: ScoreModule, precision: Precision | None = None, compiled: bool = False) -> Iterator[None]:
    """Sample in a precision, compiled or not, inside a ``with`` block.

    Args:
        module: The model.
        precision: Which; as it is around the block for ``None``.
        compiled: Run compiled code; if not, as the model is set to.
    """
    network, kind = module.score.network, module.device.type
    before, around = network.compiled, torch.is_autocast_enabled(kind)
    network.compiled = before or compiled
    try:
        low = around if precision is None else precision == "bf16-mixed"
        with torch.autocast(kind, torch.bfloat16, enabled=low):
            yield
    finally:
        network.compiled = before
