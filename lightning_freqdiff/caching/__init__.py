"""Caches: policies that decide when to run how much of the network. Plain torch, no Lightning."""

from lightning_freqdiff.caching.base import CachedScore, CachePolicy, Call, Ledger, Outcome
from lightning_freqdiff.caching.e2crf import E2CRF

__all__ = ["E2CRF", "CachePolicy", "CachedScore", "Call", "Ledger", "Outcome"]
