"""Bands of frequency, for caches that treat the low otherwise than the high."""

from __future__ import annotations

from lightning_freqdiff.caching.reuse import Stale
from lightning_freqdiff.diffusion.score import Score


def require_frequencies(score: Score, what: Stale, otherwise: str) -> None:
    """Refuse to split by frequency what does not go along frequencies.

    Args:
        score: The model.
        what: What is to be split; predictions have the tokens of the layout on every network, features may not.
        otherwise: The setting, and the value of it, that needs no frequencies.

    Raises:
        ValueError: Where tokens are steps in time, or features go along time or are of one token alone.
    """
    along = what in ("output", "wiener") or score.network.along_tokens
    if score.codec.layout.domain != "frequency" or not along:
        raise ValueError(
            f"expected tokens that are frequencies, for {what} to be split by, got those of "
            f"{type(score.network).__name__} in the domain {score.codec.layout.domain}: set {otherwise}"
        )
