"""Run blocks on some tokens, the others lending their cached keys and values."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from lightning_freqdiff.networks import Backbone, Embedding, TokenBlock
from lightning_freqdiff.networks.flops import count_flops

KeysValues = list[Tensor]
"""One tensor per block, keys beside values, each ``(B, K, 2d)``."""


def require_tokens(network: Backbone) -> Sequence[TokenBlock]:
    """Return the blocks of a network whose tokens can be run one by one.

    Raises:
        ValueError: For a network without tokens of its own, such as an MLP, or with an order among them (LSTM).
    """
    if network.token_blocks is None:
        raise ValueError(
            f"expected a network whose tokens can be run one by one, such as Transformer, got "
            f"{type(network).__name__}: set `policy.preset` balanced, which decides on whole calls, or train with "
            "another `model.network`"
        )
    return network.token_blocks


def run_all(network: Backbone, h: Tensor, context: Tensor | None) -> tuple[Tensor, KeysValues]:
    """Run all blocks on all tokens, with the very operations of an uncached call, and keep keys and values.

    Args:
        network: Backbone.
        h: Embedded tokens ``h⁰``, ``(B, K, d)``.
        context: What the blocks need besides.

    Returns:
        Features of the last block ``(B, K, d)``, and the pairs of every block.
    """
    return network.in_chunks(partial(_run_all, require_tokens(network)), h, context)


def _run_all(blocks: Sequence[TokenBlock], h: Tensor, context: Tensor | None) -> tuple[Tensor, KeysValues]:
    pairs = []
    for block in blocks:
        q, kv = block.queries_keys_values(h, context)
        pairs.append(kv)
        h = block.finish(h, q, kv, context)
    return h, pairs


def run_some(
    network: Backbone, h: Tensor, context: Tensor | None, pairs: KeysValues, index: Tensor, valid: Tensor
) -> tuple[Tensor, KeysValues]:
    """Run all blocks on the tokens in ``index``; their queries attend to fresh and cached pairs.

    Args:
        network: Backbone.
        h: Embeddings of the chosen tokens, ``(B, S, d)``.
        context: What the blocks need besides.
        pairs: Cached keys and values of all tokens, one ``(B, K, 2d)`` per block.
        index: Which tokens, ``(B, S)``.
        valid: ``(B, S)``, false where ``index`` is only padding, which must leave no trace.

    Returns:
        Features of the chosen tokens ``(B, S, d)``, and the pairs with the fresh ones in place.
    """
    return network.in_chunks(partial(_run_some, require_tokens(network)), h, context, pairs, index, valid)


def _run_some(
    blocks: Sequence[TokenBlock],
    h: Tensor,
    context: Tensor | None,
    pairs: KeysValues,
    index: Tensor,
    valid: Tensor,
) -> tuple[Tensor, KeysValues]:
    fresh = []
    for block, old in zip(blocks, pairs, strict=True):
        q, kv = block.queries_keys_values(h, context)
        mixed = put(old, index, kv, valid)
        fresh.append(mixed)
        h = block.finish(h, q, mixed, context)
    return h, fresh


def run_keys_values(
    network: Backbone,
    h: Tensor,
    context: Tensor | None,
    pairs: KeysValues,
    index: Tensor,
    valid: Tensor,
    share: Tensor,
) -> tuple[Tensor, KeysValues]:
    """Run all blocks on all tokens, but project keys and values only for those in ``index``.

    Algorithm 1 of E2-CRF (arXiv 2604.22901) to the letter. It saves the projections only. The cached pairs move to
    the fresh ones by the ``share`` of each token, ``(B, K)``, as equation 14 corrects the probes.
    """
    mixed, share = [], share.gather(1, index).unsqueeze(-1)
    for block, old in zip(require_tokens(network), pairs, strict=True):
        q = block.queries(h, context)
        fresh = block.keys_values(take(h, index), context)
        new = torch.where(share == 1, fresh, torch.lerp(take(old, index).to(fresh), fresh, share.to(fresh)))
        mixed.append(put(old, index, new, valid))
        h = block.finish(h, q, mixed[-1], context)
    return h, mixed


def share_of_pairs(network: Backbone, embedding: Embedding) -> float:
    """Return the share of the FLOPs that is in projecting keys and values, for one sample."""
    one = embedding.take(torch.zeros(1, dtype=torch.long, device=embedding.features.device))
    projections = sum(count_flops(block.keys_values, *one) for block in require_tokens(network))
    return projections / count_flops(network.blocks, *one)


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
