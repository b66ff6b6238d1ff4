"""The arithmetic of a block on a CPU, where no gradient is wanted: PyTorch's own sums with less memory traffic.

Narrow heads make attention a matter of moments that PyTorch's kernel spends on moving its tiles, and a linear layer
writes its bias into the whole output before the product is added to it. Here attention is two batched products around
one exponential in place, and biases are added where the numbers are still in the cache. What differs from PyTorch's
own functions is rounding.

Under ``torch.autocast("cpu", torch.bfloat16)`` the feed-forward layers, nine tenths of a block's work, multiply in
bfloat16 with weights that sampling casts once (``derived.py``); everything else stays in
float32, which is faster here, too.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_freqdiff.networks.kernels.derived import Derived

SCORES_BYTES = 8 * 2**20
"""Attention scores of more bytes than this are not kept whole: PyTorch's kernel works on tiles of them."""

NARROW, FEW_SCORES = 12, 2**19
"""Heads of at least this width suit PyTorch's kernel where there are no more scores than that."""

RANGE = 60.0
"""Exponentials of numbers within this of zero are not denormal, which would be slow, and their sums not infinite."""


def applies(x: Tensor) -> bool:
    """Tell whether to do the sums here: on a CPU, without gradients, in float32 or with bfloat16 products."""
    known = x.dtype in (torch.float32, torch.float64) and (not torch.is_autocast_enabled("cpu") or lowered())
    return x.is_cpu and known and not torch.is_grad_enabled()


def plain(*layers: nn.Module) -> bool:
    """Tell whether layers are linear and nothing more, so that their weights say all: no hooks, no adapters."""
    hooks = ("_forward_hooks", "_forward_pre_hooks")
    return all(type(layer) is nn.Linear and not any(getattr(layer, name) for name in hooks) for layer in layers)


def lowered() -> bool:
    """Tell whether the feed-forward layers are to multiply in bfloat16."""
    return torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16


def float32(low: bool) -> AbstractContextManager[object]:
    """Keep autocast, where it is on, from the sums made here."""
    return torch.autocast("cpu", enabled=False) if low else nullcontext()


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return ``softmax(q kᵀ / √d) v`` of queries ``(B, H, S, d)`` and keys and values ``(B, H, K, d)``.

    A softmax needs no greatest score taken off where all scores are within ``RANGE``, as a product of norms can tell.
    Elsewhere it is, and what is then below ``-RANGE`` adds less than rounding does.
    """
    batch, heads, queries, width = q.shape
    count = batch * heads * queries * k.shape[2]
    if not count or q.element_size() * count > SCORES_BYTES or (width >= NARROW and count < FEW_SCORES):
        return F.scaled_dot_product_attention(q, k, v)
    scale = width**-0.5
    flat_q, flat_k, flat_v = (a.flatten(0, 1) for a in (q, k, v))
    scores = torch.baddbmm(q.new_empty(()), flat_q, flat_k.transpose(1, 2), beta=0, alpha=scale)
    if torch.compiler.is_compiling():  # which reads no numbers, and makes one loop of a softmax anyway
        return torch.bmm(scores.softmax(-1), flat_v).unflatten(0, (batch, heads))
    greatest = scale * _longest(flat_q) * _longest(flat_k)
    if not greatest < RANGE:  # or not a number
        scores.sub_(scores.amax(-1, keepdim=True)).clamp_min_(-RANGE)
    weights = scores.exp_()
    return torch.bmm(weights, flat_v).div_(weights.sum(-1, keepdim=True)).unflatten(0, (batch, heads))


def _longest(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, dim=-1).amax()


def feed_forward(h: Tensor, normed: Tensor, expand: nn.Linear, contract: nn.Linear, keeper: Derived) -> Tensor:
    """Return ``h + contract(relu(expand(normed)))`` for features ``(B, S, d)``.

    Under autocast the products are in bfloat16; sums over them are float32 all the same.

    Args:
        h: What is added to.
        normed: What goes in.
        expand: First layer.
        contract: Second layer.
        keeper: What keeps the weights in bfloat16.
    """
    with float32(low := lowered()):
        return _feed_forward(h, normed, expand, contract, keeper, low)


def _feed_forward(
    h: Tensor, normed: Tensor, expand: nn.Linear, contract: nn.Linear, keeper: Derived, low: bool
) -> Tensor:
    rows, kept = normed.flatten(0, 1), (h + contract.bias).flatten(0, 1)
    if low:
        up, down, finite = keeper.derive("bfloat16", lambda: _weights(expand, contract))
        hidden = torch.mm(F.pad(rows, (0, 1), value=1.0).bfloat16(), up.t())
        if finite:  # negative floats are negative integers of the same bits, which are several times as fast
            hidden.view(torch.int16).clamp_min_(0)
        else:  # what is not a number is to stay so
            hidden.relu_()
        return kept.add_(torch.mm(hidden, down.t())).view_as(h)
    hidden = torch.mm(rows, expand.weight.t())
    if torch.compiler.is_compiling():  # which fuses what is written plainly
        return (kept + torch.mm(F.relu(hidden + expand.bias), contract.weight.t())).view_as(h)
    hidden = hidden.add_(expand.bias).relu_()
    return torch.addmm(kept, hidden, contract.weight.t()).view_as(h)


def _weights(expand: nn.Linear, contract: nn.Linear) -> tuple[Tensor, Tensor, bool]:
    """Return both weights in bfloat16, the first with its bias as one more column, and whether all are finite."""
    up = torch.cat([expand.weight, expand.bias.unsqueeze(1)], dim=1)
    low = up.bfloat16(), contract.weight.bfloat16()
    return *low, not torch.compiler.is_compiling() and all(bool(w.isfinite().all()) for w in low)
