"""E²-CRF as a callback."""

from __future__ import annotations

from typing import Any

from lightning_freqdiff.caching import E2CRF
from lightning_freqdiff.callbacks.cache import CacheCallback


class E2CRFCache(CacheCallback):
    """Sample through E²-CRF (arXiv 2604.22901).

    Args:
        **settings: Settings of the policy.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(E2CRF(**settings))
