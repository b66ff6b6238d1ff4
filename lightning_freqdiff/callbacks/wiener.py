"""The Wiener cache as a callback."""

from __future__ import annotations

from typing import Any

from lightning_freqdiff.caching import Wiener
from lightning_freqdiff.callbacks.cache import CacheCallback


class WienerCache(CacheCallback):
    """Sample through the Wiener cache.

    Args:
        **settings: Settings of the policy.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(Wiener(**settings))
