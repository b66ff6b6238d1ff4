"""The papers' backbone: a transformer encoder over frequencies, here pre-norm and open for caches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_freqdiff.networks.base import Architecture, Backbone, FourierTime, check_positive

PRESETS: dict[str, dict[str, float]] = {
    "small": {"layers": 4, "heads": 4, "width": 64, "feedforward": 256, "time_scale": 4.0},
    "paper": {"layers": 10, "heads": 12, "width": 72, "feedforward": 2048, "time_scale": 30.0},
}

# On a CPU, the feed-forward activations of one piece of a batch should stay in the second-level cache.
CPU_PIECE_BYTES = 3 * 2**20

# Up to so many samples, plain matrix products beat PyTorch's attention kernel on a CPU when heads are narrow.
FEW = 4


@dataclass(frozen=True)
class Transformer(Architecture):
    """Pre-norm transformer encoder. A setting that is not given comes from the preset.

    Args:
        preset: ``small`` (4 layers, 4 heads, 64 wide, feed-forward 256, 0.2 M parameters) or ``paper`` (10
            layers, 12 heads, 72 wide, feed-forward 2048, 3.2 M parameters; arXiv 2402.05933).
        layers: Number of blocks.
        heads: Attention heads; must divide the width.
        width: Width of a token's features.
        feedforward: Width of the feed-forward layer.
        time_scale: Scale of the Fourier features of time, in cycles per unit of t.
        dropout: Share of features dropped in training.
    """

    preset: Literal["small", "paper"] = "small"
    layers: int | None = None
    heads: int | None = None
    width: int | None = None
    feedforward: int | None = None
    time_scale: float | None = None
    dropout: float = 0.0

    def setting(self, name: str) -> int:
        """Return a setting by name, from the preset where it was not given."""
        value = getattr(self, name)
        return int(PRESETS[self.preset][name] if value is None else value)

    def build(self, tokens: int, features: int) -> TransformerBackbone:
        """Make a transformer for ``tokens`` tokens of ``features`` numbers."""
        sizes = {name: self.setting(name) for name in ("layers", "heads", "width", "feedforward")}
        check_positive(**sizes)
        if sizes["width"] % sizes["heads"] or sizes["width"] % 2:
            raise ValueError(
                f"expected an even width that the heads divide, got width {sizes['width']} and heads "
                f"{sizes['heads']}: set --model.network.width or --model.network.heads"
            )
        scale = PRESETS[self.preset]["time_scale"] if self.time_scale is None else self.time_scale
        return TransformerBackbone(tokens, features, **sizes, time_scale=scale, dropout=self.dropout)


class Block(nn.Module):
    """One pre-norm encoder block, whose queries may be fewer tokens than its keys and values.

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
        self.query_key_value = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.expand, self.contract = nn.Linear(width, feedforward), nn.Linear(feedforward, width)

    def queries_keys_values(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Project this block's input ``(B, S, d)`` to Q, K and V, each ``(B, S, d)``."""
        q, k, v = self.query_key_value(self.norm_attention(h)).chunk(3, dim=-1)
        return q, k, v

    def finish(self, h: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend from queries ``(B, S, d)`` to keys and values ``(B, K, d)``, then feed forward ``h``."""
        rate = self.dropout if self.training else 0.0
        q, k, v = (a.unflatten(-1, (self.heads, -1)).transpose(1, 2) for a in (q, k, v))
        attended = _attend(q, k, v, rate)
        h = h + F.dropout(self.project(attended.transpose(1, 2).flatten(2)), rate, self.training)
        hidden = F.relu(self.expand(self.norm_feedforward(h)), inplace=not torch.is_grad_enabled())
        return h + F.dropout(self.contract(hidden), rate, self.training)

    def forward(self, h: Tensor) -> Tensor:
        """Run the whole block on all tokens ``(B, K, d)``."""
        return self.finish(h, *self.queries_keys_values(h))


def _attend(q: Tensor, k: Tensor, v: Tensor, dropout: float) -> Tensor:
    """Attend with queries ``(B, H, S, d)`` to keys and values ``(B, H, K, d)``."""
    if q.device.type != "cpu" or torch.is_grad_enabled() or len(q) > FEW:
        return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
    flat_q, flat_k, flat_v = (a.flatten(0, 1) for a in (q, k, v))
    weights = torch.bmm(flat_q * q.shape[-1] ** -0.5, flat_k.transpose(1, 2)).softmax(-1)
    return torch.bmm(weights, flat_v).unflatten(0, q.shape[:2])


class TransformerBackbone(Backbone):
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
        super().__init__()
        self.token = nn.Linear(features, width)
        self.position = nn.Parameter(0.02 * torch.randn(tokens, width))
        self.time = FourierTime(width, time_scale)
        self.layers = nn.ModuleList(Block(width, heads, feedforward, dropout) for _ in range(layers))
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, features)
        # A zero head makes the untrained model the Wiener filter, already the best linear denoiser.
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        self.sizes = (tokens, layers, width, feedforward)
        self.cpu_piece_bytes = CPU_PIECE_BYTES

    def piece(self, samples: int, device: torch.device, tokens: int | None = None) -> int:
        """Return how many samples to run at once: on a CPU, as many as its caches hold the activations of."""
        if device.type != "cpu" or torch.is_grad_enabled():
            return max(1, samples)
        all_tokens, _, _, feedforward = self.sizes
        return max(1, self.cpu_piece_bytes // (4 * (tokens or all_tokens) * feedforward))

    def flops(self, queries: int) -> int:
        """Count the FLOPs of the blocks for ``queries`` tokens of one sample that attend to all."""
        tokens, layers, width, feedforward = self.sizes
        return layers * queries * (2 * (4 * width**2 + 2 * width * feedforward) + 4 * tokens * width)

    def embed(self, z: Tensor, t: Tensor) -> Tensor:
        """Embed tokens ``(B, K, F)`` at time ``t`` as ``h⁰``, ``(B, K, d)``."""
        return self.token(z) + self.position + self.time(t)

    def blocks(self, h: Tensor) -> Tensor:
        """Run all blocks on all tokens ``(B, K, d)``; on a CPU in pieces whose activations fit its caches."""
        pieces = [self._blocks(piece) for piece in h.split(self.piece(len(h), h.device))]
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)

    def _blocks(self, h: Tensor) -> Tensor:
        for block in self.layers:
            h = block(h)
        return h

    def head(self, h: Tensor) -> Tensor:
        """Turn features ``(B, S, d)`` of any tokens into raw output ``(B, S, F)``."""
        return self.out(self.norm(h))
