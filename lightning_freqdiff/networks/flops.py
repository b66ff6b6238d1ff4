"""How much work a part of a network is, by PyTorch's own counter."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
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
        # The counter knows neither oneDNN's recurrent layers, which are one operation, nor fused attention on a CPU.
        plain = torch.backends.mkldnn.flags(enabled=False), sdpa_kernel(SDPBackend.MATH)
        with FlopCounterMode(display=False) as counter, plain[0], plain[1]:
            run(*inputs)
    return counter.get_total_flops()
