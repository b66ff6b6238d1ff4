"""What is derived of a module's weights, and kept for as long as they surely do not change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import nn

T = TypeVar("T")


class Derived(nn.Module):
    """A module that may keep something made of its weights, such as their copies in another precision.

    Outside of :meth:`kept` it is made anew at every call: whether weights have changed cannot be told, as averages of
    weights are put in place behind PyTorch's back.
    """

    _made: dict[str, Any] | None = None

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep what is made inside a ``with`` block."""
        before, self._made = self._made, {}
        try:
            yield
        finally:
            self._made = before

    def derive(self, name: str, make: Callable[[], T]) -> T:
        """Return what ``make`` makes, or made before; compiled code always makes it, as a part of what it fuses."""
        if self._made is None or torch.compiler.is_compiling():
            return make()
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]
