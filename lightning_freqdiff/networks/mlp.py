"""A fully connected backbone, as Crabbé et al. (arXiv 2402.05933) offer beside the transformer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lightning_freqdiff.codec import Codec
from lightning_freqdiff.condition import NOTHING, UNCONDITIONAL, Condition, ConditionSizes
from lightning_freqdiff.networks.base import Architecture, Backbone, Embedding, check_positive, refuse_conditions
from lightning_freqdiff.networks.context import FourierTime


@dataclass(frozen=True)
class MLP(Architecture):
    """Residual network over the flattened tokens.

    Args:
        layers: Number of residual blocks.
        width: Width of the hidden features, even.
        time_scale: Scale of the Fourier features of time, in cycles per unit of t.
    """

    layers: int = 4
    width: int = 256
    time_scale: float = 4.0

    def build(self, codec: Codec, sizes: ConditionSizes = UNCONDITIONAL) -> MLPBackbone:
        """Make an MLP, which can be told nothing."""
        refuse_conditions(sizes, "an MLP")
        check_positive(layers=self.layers, width=self.width)
        if self.width % 2:
            raise ValueError(f"expected an even width, got {self.width}: set `model.network.width`")
        layout = codec.layout
        return MLPBackbone(layout.tokens, layout.features, self.layers, self.width, self.time_scale)


class MLPBackbone(Backbone):
    """The whole series as one token: embedding, residual blocks, and a head that starts at zero.

    Args:
        tokens: Number of tokens.
        features: Width of a token.
        layers: Number of residual blocks.
        width: Width of the hidden features, ``d``.
        time_scale: Scale of the Fourier features of time.
    """

    along_tokens = False

    def __init__(self, tokens: int, features: int, layers: int, width: int, time_scale: float) -> None:
        super().__init__()
        self.shape = (tokens, features)
        self.token, self.time = nn.Linear(tokens * features, width), FourierTime(width, time_scale)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, width))
            for _ in range(layers)
        )
        self.out = nn.Linear(width, tokens * features)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def embed(self, z: Tensor, t: Tensor, condition: Condition = NOTHING) -> Embedding:
        """Embed tokens ``(B, K, F)`` at time ``t`` as ``(B, 1, d)``."""
        return Embedding(self.token(z.flatten(1)).unsqueeze(1) + self.time(t))

    def block(self, number: int, h: Tensor, context: Tensor | None = None) -> Tensor:
        """Run one residual block on features ``(B, 1, d)``."""
        return h + self.layers[number](h)

    def head(self, h: Tensor, context: Tensor | None = None) -> Tensor:
        """Turn features ``(B, 1, d)`` into raw output ``(B, K, F)``."""
        return self.out(torch.relu(h)).squeeze(1).unflatten(1, self.shape)
