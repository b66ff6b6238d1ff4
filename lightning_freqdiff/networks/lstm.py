"""A recurrent backbone, as Crabbé et al. (arXiv 2402.05933) offer beside the transformer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lightning_freqdiff.codec import Codec
from lightning_freqdiff.condition import NOTHING, UNCONDITIONAL, Condition, ConditionSizes
from lightning_freqdiff.networks.base import Architecture, Backbone, Embedding, check_positive, refuse_conditions
from lightning_freqdiff.networks.context import FourierTime


@dataclass(frozen=True)
class LSTM(Architecture):
    """Bidirectional LSTM over the tokens.

    Args:
        layers: Number of stacked LSTM layers.
        width: Width of a token's features, even: half for each direction.
        time_scale: Scale of the Fourier features of time, in cycles per unit of t.
    """

    layers: int = 3
    width: int = 96
    time_scale: float = 4.0

    def build(self, codec: Codec, sizes: ConditionSizes = UNCONDITIONAL) -> LSTMBackbone:
        """Make an LSTM, which can be told nothing."""
        refuse_conditions(sizes, "an LSTM")
        check_positive(layers=self.layers, width=self.width)
        if self.width % 2:
            raise ValueError(f"expected an even width, got {self.width}: set `model.network.width`")
        layout = codec.layout
        return LSTMBackbone(layout.tokens, layout.features, self.layers, self.width, self.time_scale)


class LSTMBackbone(Backbone):
    """Token and time embedding, residual LSTM layers, and a head that starts at zero.

    Args:
        tokens: Number of tokens.
        features: Width of a token.
        layers: Number of LSTM layers.
        width: Width of a token's features.
        time_scale: Scale of the Fourier features of time.
    """

    def __init__(self, tokens: int, features: int, layers: int, width: int, time_scale: float) -> None:
        super().__init__()
        self.token, self.time = nn.Linear(features, width), FourierTime(width, time_scale)
        self.position = nn.Parameter(0.02 * torch.randn(tokens, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers))
        self.layers = nn.ModuleList(
            nn.LSTM(width, width // 2, batch_first=True, bidirectional=True) for _ in range(layers)
        )
        self.out = nn.Linear(width, features)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def embed(self, z: Tensor, t: Tensor, condition: Condition = NOTHING) -> Embedding:
        """Embed tokens ``(B, K, F)`` at time ``t`` as ``(B, K, d)``."""
        return Embedding(self.token(z) + self.position + self.time(t))

    def block(self, number: int, h: Tensor, context: Tensor | None = None) -> Tensor:
        """Run one layer, which adds to its input, ``(B, K, d)``."""
        return h + self.layers[number](self.norms[number](h))[0]

    def head(self, h: Tensor, context: Tensor | None = None) -> Tensor:
        """Turn features ``(B, K, d)`` into raw output ``(B, K, F)``."""
        return self.out(torch.relu(h))
