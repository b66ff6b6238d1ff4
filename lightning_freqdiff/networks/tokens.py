"""What transformers have in common: chunks that fit a CPU's caches, and attention whose queries may be few."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch.nn.functional as F
from torch import Tensor, nn

from lightning_freqdiff.networks.base import Backbone
from lightning_freqdiff.networks.kernels import Derived, attention, full_precision

# Bytes of one chunk of a batch on a CPU: feed-forward activations, attention scores.
CPU_HIDDEN_BYTES, CPU_SCORES_BYTES = 12 * 2**20, 7 * 2**20


class TokenTransformer(Backbone):
    """What transformers have in common: blocks whose queries may be fewer tokens than their keys and values.

    Args:
        tokens: Tokens that the blocks work on.
        heads: Attention heads.
        feedforward: Width of the feed-forward layer.
    """

    def __init__(self, tokens: int, heads: int, feedforward: int) -> None:
        super().__init__()
        fit = min(CPU_HIDDEN_BYTES // (4 * tokens * feedforward), CPU_SCORES_BYTES // (4 * heads * tokens**2))
        self.tokens, self.cpu_chunk = tokens, 2 ** int(math.log2(max(1, fit)))

    def cpu_fit(self, h: Tensor) -> int:
        """Return how many samples fit: more of them where they have fewer tokens."""
        return self.cpu_chunk * self.tokens // max(1, h.shape[1])

    def block(self, number: int, h: Tensor, context: Tensor | None = None) -> Tensor:
        """Run one block on all tokens ``(B, K, d)``."""
        return self.layers[number](h, context)


class AttentionBlock(Derived, ABC):
    """A block that attends, then feeds forward; its queries may be fewer tokens than its keys and values.

    Attributes:
        heads: Attention heads.
        dropout: Share of features dropped in training.
        query_key_value: From features to queries, keys and values.
        project: From what the heads found to features.
    """

    heads: int
    dropout: float
    query_key_value: nn.Linear
    project: nn.Linear

    @abstractmethod
    def attended(self, h: Tensor, context: Tensor | None = None) -> Tensor:
        """Return what the attention is made of: normalised features ``(B, S, d)``."""

    @abstractmethod
    def finish(self, h: Tensor, q: Tensor, kv: Tensor, context: Tensor | None = None) -> Tensor:
        """Attend from queries ``(B, S, d)`` to keys and values ``(B, K, 2d)``, then feed forward ``h``."""

    @property
    def rate(self) -> float:
        """Share of features dropped here and now."""
        return self.dropout if self.training else 0.0

    def queries_keys_values(self, h: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Project the block's input ``(B, S, d)`` to queries ``(B, S, d)``, and keys beside values ``(B, S, 2d)``."""
        with full_precision(h):
            q, kv = self.query_key_value(self.attended(h, context)).tensor_split([h.shape[-1]], dim=-1)
        return q, kv

    def queries(self, h: Tensor, context: Tensor | None = None) -> Tensor:
        """Project to queries alone."""
        return self._project(h, context, slice(None, h.shape[-1]))

    def keys_values(self, h: Tensor, context: Tensor | None = None) -> Tensor:
        """Project to keys and values alone."""
        return self._project(h, context, slice(h.shape[-1], None))

    def _project(self, h: Tensor, context: Tensor | None, rows: slice) -> Tensor:
        layer = self.query_key_value
        if type(layer) is not nn.Linear:  # one that has been put in its place, in integers for instance
            return layer(self.attended(h, context))[..., rows]
        weight, bias = layer.weight, layer.bias
        with full_precision(h):
            return F.linear(self.attended(h, context), weight[rows], bias[rows])

    def mixed(self, q: Tensor, kv: Tensor) -> Tensor:
        """Return what queries ``(B, S, d)`` find among keys and values ``(B, K, 2d)``, ``(B, S, d)``."""
        return F.dropout(self.project(attention(q, kv, self.heads, self.rate)), self.rate, self.rate > 0)

    def forward(self, h: Tensor, context: Tensor | None = None) -> Tensor:
        """Run the whole block on all tokens ``(B, K, d)``."""
        return self.finish(h, *self.queries_keys_values(h, context), context)
