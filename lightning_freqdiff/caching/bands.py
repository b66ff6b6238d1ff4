"""Bands of frequency, for caches that treat the low otherwise than the high."""

from __future__ import annotations

from torch import Tensor

from lightning_freqdiff.caching.reuse import Stale
from lightning_freqdiff.diffusion.score import Score


def require_frequencies(score: Score, what: Stale, otherwise: str) -> Tensor:
    """Return the frequency of each token, ``(tokens,)``, or refuse to split what does not go along frequencies.

    Args:
        score: The model.
        what: What is to be split; predictions have the tokens of the layout on every network, features may not.
        otherwise: The setting, and the value of it, that needs no frequencies.

    Raises:
        ValueError: Where tokens are no frequencies (steps, blocks), or features go along time or are of one token.
    """
    along = what in ("output", "wiener") or score.network.along_tokens
    frequencies = score.codec.layout.frequencies
    if frequencies is None or not along:
        raise ValueError(
            f"expected tokens that are frequencies, for {what} to be split by, got those of "
            f"{type(score.network).__name__} in the domain {score.codec.layout.domain}: set {otherwise}"
        )
    return frequencies
