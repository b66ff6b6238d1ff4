"""How much work a part of a network is, by PyTorch's own counter."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode


@torch.no_grad()
def count_flops(run: Callable[..., Any], *inputs: Any) -> int:
    """Run once and return the FLOPs of its products; what is done element by element does not count.

    Examples:
        >>> count_flops(torch.nn.Linear(4, 3), torch.zeros(5, 4))
        120
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of processors that are not here
        # oneDNN's recurrent layers are a single operation, which the counter does not know.
        with FlopCounterMode(display=False) as counter, torch.backends.mkldnn.flags(enabled=False):
            run(*inputs)
    return counter.get_total_flops()
