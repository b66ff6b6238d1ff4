"""What a token that was not recomputed returns: the past, in one of four forms."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from lightning_freqdiff.diffusion.score import Coefficients, Score

Stale = Literal["output", "features", "residual", "wiener"]


def keep(
    kind: Stale, score: Score, noise: Tensor, z: Tensor, c: Coefficients, h0: Tensor, features: Tensor
) -> Tensor:
    """Turn a fresh evaluation into what is kept of it, ``(B, S, *)``.

    Args:
        kind: ``output`` keeps the noise prediction; ``features`` those of the last block, ``z_L``; ``residual``
            the blocks' cumulative residual ``z_L - h⁰`` (CRF); ``wiener`` the remainder of the Wiener filter in
            units of its deviation, ``(ξ̂_lin - ξ̂) / c`` with ``c = α √(v / (α²v + s²))``.
        score: The model.
        noise: Fresh noise prediction of the tokens, ``(B, S, F)``.
        z: The tokens.
        c: Scales at the present time, of those tokens.
        h0: Their embeddings, ``(B, S, d)``.
        features: Their features at the last block, ``(B, S, d)``.
    """
    match kind:
        case "output":
            return noise
        case "features":
            return features
        case "residual":
            return features - h0
        case "wiener":
            spread = c.spread / c.total
            remainder = score.linear_noise(z, c) - noise
            return torch.where(spread > 0, remainder / torch.where(spread > 0, spread, 1.0), 0.0)


def recall(
    kind: Stale, score: Score, kept: Tensor, z: Tensor, t: Tensor, c: Coefficients, h0: Tensor | None = None
) -> Tensor:
    """Turn what is kept of all tokens into a noise prediction under the present input, ``(B, K, F)``."""
    match kind:
        case "output":
            return kept
        case "features":
            return score.noise(score.network.head(kept), z, c)
        case "residual":
            h0 = score.embed(z, t, c) if h0 is None else h0
            return score.noise(score.network.head(h0 + kept), z, c)
        case "wiener":
            return score.linear_noise(z, c) - c.spread / c.total * kept
