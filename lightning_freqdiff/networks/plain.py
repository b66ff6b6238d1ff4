"""The encoder of the papers, here with norms before attention and feed-forward layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from lightning_freqdiff.condition import NOTHING, Condition
from lightning_freqdiff.networks.base import Embedding, TokenBlock
from lightning_freqdiff.networks.context import FourierTime
from lightning_freqdiff.networks.kernels import feed_forward, full_precision
from lightning_freqdiff.networks.tokens import AttentionBlock, TokenTransformer


class EncoderBlock(AttentionBlock):
    """One pre-norm encoder block.

    Args:
        width: Width of a token's features.
        heads: Attention heads.
        feedforward: Width of the feed-forward layer.
        dropout: Share of features dropped in training.
    """

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm_attention, self.norm_feedforward = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.expand, self.contract = nn.Linear(width, feedforward), nn.Linear(feedforward, width)

    def attended(self, h: Tensor, context: Tensor | None = None) -> Tensor:
        """Return normalised features ``(B, S, d)``."""
        return self.norm_attention(h)

    def finish(self, h: Tensor, q: Tensor, kv: Tensor, context: Tensor | None = None) -> Tensor:
        """Attend from queries ``(B, S, d)`` to keys and values ``(B, K, 2d)``, then feed forward ``h``."""
        with full_precision(h):
            h = h + self.mixed(q, kv)
            normed = self.norm_feedforward(h)
        return feed_forward(h, normed, self.expand, self.contract, self.rate, self)


class PlainTransformer(TokenTransformer):
    """Token and time embedding, encoder blocks, and a head that starts at zero.

    Args:
        tokens: Number of tokens, ``K``.
        features: Width of a token, ``F``.
        layers: Number of blocks.
        heads: Attention heads.
        width: Width of a token's features, ``d``.
        feedforward: Width of the feed-forward layer.
        time_scale: Scale of the Fourier features of time.
        dropout: Share of features dropped in training.
    """

    def __init__(
        self,
        tokens: int,
        features: int,
        layers: int,
        heads: int,
        width: int,
        feedforward: int,
        time_scale: float,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(tokens, heads, feedforward)
        self.token = nn.Linear(features, width)
        self.position = nn.Parameter(0.02 * torch.randn(tokens, width))
        self.time = FourierTime(width, time_scale)
        self.layers = nn.ModuleList(EncoderBlock(width, heads, feedforward, dropout) for _ in range(layers))
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, features)
        # A zero head makes the untrained model the Wiener filter, already the best linear denoiser.
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    @property
    def token_blocks(self) -> Sequence[TokenBlock]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The blocks in order."""
        return cast("list[EncoderBlock]", list(self.layers))

    def embed(self, z: Tensor, t: Tensor, condition: Condition = NOTHING) -> Embedding:
        """Embed tokens ``(B, K, F)`` at time ``t`` as ``h⁰``, ``(B, K, d)``."""
        return Embedding(self.token(z) + self.position + self.time(t))

    def modulated(self, h: Tensor, context: Tensor | None = None) -> Tensor:
        """Return the first block's normalised input."""
        return cast(EncoderBlock, self.layers[0]).norm_attention(h)

    def head(self, h: Tensor, context: Tensor | None = None) -> Tensor:
        """Turn features ``(B, S, d)`` of any tokens into raw output ``(B, S, F)``."""
        return self.out(self.norm(h))
