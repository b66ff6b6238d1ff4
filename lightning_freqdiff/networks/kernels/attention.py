"""The halves of an encoder block, by PyTorch's functions or, on a CPU without gradients, by those of ``cpu.py``."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_freqdiff.networks.kernels import cpu
from lightning_freqdiff.networks.kernels.derived import Derived


def full_precision(x: Tensor) -> AbstractContextManager[object]:
    """Keep autocast from what is made of ``x`` where that is slower than float32: on a CPU."""
    return cpu.float32(cpu.applies(x) and cpu.lowered())


def attention(q: Tensor, kv: Tensor, heads: int, dropout: float = 0.0) -> Tensor:
    """Attend from queries ``(B, S, d)`` to keys beside values, ``(B, K, 2d)``; return ``(B, S, d)``."""
    q, k, v = (a.unflatten(-1, (heads, -1)).transpose(1, 2) for a in (q, *kv.chunk(2, dim=-1)))
    if cpu.applies(q) and not dropout:
        mixed = cpu.attend(q, k, v)
    else:
        mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
    return mixed.transpose(1, 2).flatten(2)


def feed_forward(
    h: Tensor, normed: Tensor, expand: nn.Linear, contract: nn.Linear, dropout: float, keeper: Derived
) -> Tensor:
    """Return ``h + contract(relu(expand(normed)))`` for features ``(B, S, d)``.

    Args:
        h: What is added to.
        normed: What goes in.
        expand: First layer.
        contract: Second layer.
        dropout: Share of features dropped; 0 but in training.
        keeper: What keeps the weights cast to another precision.
    """
    if cpu.applies(h) and not dropout and cpu.plain(expand, contract):
        return cpu.feed_forward(h, normed, expand, contract, keeper)
    return h + F.dropout(contract(torch.relu(expand(normed))), dropout, dropout > 0)
