"""A transformer block whose normalised features time and condition scale and shift, with gated layers.

Adaptive layer norm: Peebles and Xie, arXiv 2212.09748, section 3.2; gated feed-forward layers: Shazeer, arXiv
2002.05202.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_freqdiff.domains import Representation
from lightning_freqdiff.networks.tokens import AttentionBlock
from lightning_freqdiff.networks.unet import Residual


class Modulation(nn.Module):
    """Layer norms without weights of their own, scaled and shifted by the context; at the start they do neither.

    Args:
        width: Width of features and context.
        parts: Norms that share one linear layer.
        gates: Whether each has a factor on what is made of its output, too.
    """

    def __init__(self, width: int, parts: int, gates: bool = False) -> None:
        super().__init__()
        self.width, self.each = width, 3 if gates else 2
        self.linear = nn.Linear(width, parts * self.each * width)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def parts(self, context: Tensor | None) -> list[tuple[Tensor, ...]]:
        """Return scale, shift (and gate) of every norm, each ``(B, 1, d)``, for a context ``(B, d)``."""
        assert context is not None
        # Autocast may have made the context in bfloat16, and be kept from what is made of it.
        rows = self.linear(context.to(self.linear.weight.dtype)).unsqueeze(1).split(self.width, dim=-1)
        return [rows[i : i + self.each] for i in range(0, len(rows), self.each)]

    def forward(self, h: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """Normalise features ``(B, S, d)``, then scale and shift them."""
        return F.layer_norm(h, (self.width,)) * (1 + scale) + shift


class AdaptiveBlock(AttentionBlock):
    """Attention, then a gated feed-forward layer, each beside the identity.

    Args:
        width: Width of a token's features.
        heads: Attention heads.
        feedforward: Width of the feed-forward layer.
        dropout: Share of features dropped in training.
    """

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm = Modulation(width, parts=2, gates=True)
        self.query_key_value, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.expand, self.contract = nn.Linear(width, 2 * feedforward), nn.Linear(feedforward, width)

    def attended(self, h: Tensor, context: Tensor | None = None) -> Tensor:
        """Return features ``(B, S, d)``, normalised, scaled and shifted."""
        scale, shift, _ = self.norm.parts(context)[0]
        return self.norm(h, scale, shift)

    def finish(self, h: Tensor, q: Tensor, kv: Tensor, context: Tensor | None = None) -> Tensor:
        """Attend from queries ``(B, S, d)`` to keys and values ``(B, K, 2d)``, then feed forward ``h``."""
        (_, _, gate), (scale, shift, feed) = self.norm.parts(context)
        h = h + (1 + gate) * self.mixed(q, kv)
        value, opening = self.expand(self.norm(h, scale, shift)).chunk(2, dim=-1)
        return h + (1 + feed) * F.dropout(self.contract(F.silu(opening) * value), self.rate, self.rate > 0)


class OverTime(nn.Module):
    """Features of tokens, on the time axis through a residual block, and back.

    They are taken for the parts of ``d / parts`` channels: half of those of frequencies are real parts.

    Args:
        layout: Layout of the tokens.
        width: Width of a token's features, and of the context.
        kernel: Steps that a convolution sees, odd.
        dropout: Share of features dropped in training.
    """

    def __init__(self, layout: Representation, width: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.layout, channels = layout, width // layout.parts
        self.residual = Residual(channels, channels, width, kernel, dropout)

    def forward(self, h: Tensor, context: Tensor) -> Tensor:
        """Mix features ``(B, K, d)`` over time."""
        exact = torch.promote_types(h.dtype, torch.float32)  # no transform is made in bfloat16
        series = self.layout.decode(h.to(exact)).to(h.dtype).transpose(1, 2)
        return self.layout.tokenize(self.residual(series, context).transpose(1, 2).to(exact)).to(h.dtype)
