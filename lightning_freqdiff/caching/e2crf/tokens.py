"""Run a transformer's blocks on some tokens, the others lending their cached keys and values."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from lightning_freqdiff.networks.base import Backbone
from lightning_freqdiff.networks.kernels import cpu
from lightning_freqdiff.networks.transformer import Block, TransformerBackbone

KeysValues = list[Tensor]
"""One tensor per block, keys beside values, each ``(B, K, 2d)``."""


def require_tokens(network: Backbone) -> TransformerBackbone:
    """Return the network if its blocks can run on some tokens.

    Raises:
        ValueError: For a backbone without tokens of its own (MLP) or with an order among them (LSTM).
    """
    if not isinstance(network, TransformerBackbone):
        raise ValueError(
            f"expected a transformer, whose tokens can be run one by one, got {type(network).__name__}: "
            "use a cache that skips whole calls, or train with `model.network` Transformer"
        )
    return network


def layers_of(network: TransformerBackbone) -> list[Block]:
    """Return the blocks in order."""
    return cast("list[Block]", list(network.layers))


def run_all(network: TransformerBackbone, h: Tensor) -> tuple[Tensor, KeysValues]:
    """Run all blocks on all tokens, with the very operations of an uncached call, and keep keys and values.

    Args:
        network: Backbone.
        h: Embedded tokens ``h⁰``, ``(B, K, d)``.

    Returns:
        Features of the last block ``(B, K, d)``, and the pairs of every block.
    """
    return network.run(_run_all, h)


def _run_all(network: TransformerBackbone, h: Tensor) -> tuple[Tensor, KeysValues]:
    pairs = []
    for block in layers_of(network):
        q, k, v = block.queries_keys_values(h)
        pairs.append(torch.cat([k, v], dim=-1))
        h = block.finish(h, q, k, v)
    return h, pairs


def run_some(
    network: TransformerBackbone, h: Tensor, pairs: KeysValues, index: Tensor, valid: Tensor
) -> tuple[Tensor, KeysValues]:
    """Run all blocks on the tokens in ``index``; their queries attend to fresh and cached pairs.

    Args:
        network: Backbone.
        h: Embeddings of the chosen tokens, ``(B, S, d)``.
        pairs: Cached keys and values of all tokens, one ``(B, K, 2d)`` per block.
        index: Which tokens, ``(B, S)``.
        valid: ``(B, S)``, false where ``index`` is only padding, which must leave no trace.

    Returns:
        Features of the chosen tokens ``(B, S, d)``, and the pairs with the fresh ones in place.
    """
    return network.run(_run_some, h, pairs, index, valid, tokens=h.shape[1])


def _run_some(
    network: TransformerBackbone, h: Tensor, pairs: KeysValues, index: Tensor, valid: Tensor
) -> tuple[Tensor, KeysValues]:
    fresh = []
    for block, old in zip(layers_of(network), pairs, strict=True):
        q, k, v = block.queries_keys_values(h)
        mixed = put(old, index, torch.cat([k, v], dim=-1), valid)
        fresh.append(mixed)
        h = block.finish(h, q, *mixed.chunk(2, dim=-1))
    return h, fresh


def run_keys_values(
    network: TransformerBackbone, h: Tensor, pairs: KeysValues, index: Tensor, valid: Tensor
) -> tuple[Tensor, KeysValues]:
    """Run all blocks on all tokens, but project keys and values only for those in ``index``.

    Algorithm 1 of E2-CRF (arXiv 2604.22901) to the letter. It saves the projections only.
    """
    fresh = []
    for block, old in zip(layers_of(network), pairs, strict=True):
        weight, bias = block.query_key_value.weight, block.query_key_value.bias
        width = h.shape[-1]
        with cpu.float32(cpu.applies(h) and cpu.lowered()):
            normed = block.norm_attention(h)
            q = torch.nn.functional.linear(normed, weight[:width], bias[:width])
            chosen = torch.nn.functional.linear(take(normed, index), weight[width:], bias[width:])
        mixed = put(old, index, chosen, valid)
        fresh.append(mixed)
        h = block.finish(h, q, *mixed.chunk(2, dim=-1))
    return h, fresh


def take(x: Tensor, index: Tensor) -> Tensor:
    """Gather tokens ``index``, ``(B, S)``, of ``x``, ``(B, K, D)``, as ``(B, S, D)``."""
    return x.gather(1, index.unsqueeze(-1).expand(-1, -1, x.shape[-1]))


def put(x: Tensor, index: Tensor, values: Tensor, valid: Tensor) -> Tensor:
    """Return ``x``, ``(B, K, D)``, with ``values`` ``(B, S, D)`` at the tokens ``index`` where ``valid``."""
    wide = index.unsqueeze(-1).expand(-1, -1, x.shape[-1])
    return x.scatter(1, wide, torch.where(valid.unsqueeze(-1), values.to(x.dtype), x.gather(1, wide)))


def choose(mask: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """List the tokens that ``mask``, ``(B, K)``, marks: lowest first, padded with others to ``most``.

    Returns:
        Indices ``(B, most)``, all different within a row, and which of them are marked.
    """
    index = mask.byte().argsort(dim=1, descending=True, stable=True)[:, :most]
    return index, mask.gather(1, index)
