"""What is kept of a network call, and what a call that is skipped returns: the past, in one of four forms."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from lightning_freqdiff.condition import NOTHING, Condition
from lightning_freqdiff.diffusion.score import Coefficients, Score
from lightning_freqdiff.networks import Embedding

Stale = Literal["output", "features", "residual", "wiener"]


def store(kind: Stale, score: Score, eps: Tensor, z: Tensor, c: Coefficients, h0: Tensor, features: Tensor) -> Tensor:
    """Turn a fresh evaluation into what is kept of it, ``(B, S, *)``.

    Args:
        kind: ``output`` keeps the noise prediction; ``features`` those of the last block, ``z_L``; ``residual``
            the blocks' cumulative residual ``z_L - h⁰`` (CRF); ``wiener`` the remainder of the Wiener filter in
            units of its deviation, ``(eps_lin - eps) / c`` with ``c = α √(v / (α²v + s²))``.
        score: The model.
        eps: Fresh noise prediction of the tokens, ``(B, S, F)``.
        z: The tokens.
        c: Scales at the present time, of those tokens.
        h0: Their embeddings, ``(B, S, d)``.
        features: Their features at the last block, ``(B, S, d)``.
    """
    match kind:
        case "output":
            return eps
        case "features":
            return features
        case "residual":
            return features - h0
        case "wiener":
            spread = c.spread / c.total
            remainder = score.wiener_eps(z, c) - eps
            return torch.where(spread > 0, remainder / torch.where(spread > 0, spread, 1.0), 0.0)


def restore(
    kind: Stale,
    score: Score,
    kept: Tensor,
    z: Tensor,
    t: Tensor,
    c: Coefficients,
    condition: Condition = NOTHING,
    embedding: Embedding | None = None,
) -> Tensor:
    """Turn what is kept of all tokens into a noise prediction under the present input, ``(B, K, F)``.

    The embedding of the present input is made where it is needed and not given.
    """
    if kind == "output":
        return kept
    if kind == "wiener":
        return score.wiener_eps(z, c) - c.spread / c.total * kept
    h0, context = score.embed(z, t, c, condition) if embedding is None else embedding
    return score.eps(score.network.head(h0 + kept if kind == "residual" else kept, context), z, c)
