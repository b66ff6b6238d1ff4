"""Precision and compilation of one way to sample, beside others in the same process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Literal

import torch

from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.networks.low_bit import Bits, in_low_bits

TrainerPrecision = Literal["32-true", "bf16-mixed"]
"""Precisions of everything, by the names that a trainer has for them."""
Precision = TrainerPrecision | Literal["w8a8", "w4a8"]
"""Precisions of one way to sample: bits of weights and inputs, too."""
LOW_BITS: dict[Precision, Bits] = {"w8a8": 8, "w4a8": 4}
"""Bits of a weight, in precisions that are integers."""


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
    with ExitStack() as stack:
        stack.callback(setattr, network, "compiled", before)
        if precision in LOW_BITS:
            stack.enter_context(in_low_bits(network, module.score.calibration, LOW_BITS[precision]))
        low = around if precision is None else precision == "bf16-mixed"
        stack.enter_context(torch.autocast(kind, torch.bfloat16, enabled=low))
        yield
