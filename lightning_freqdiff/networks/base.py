"""What every backbone is: three parts in a row, so that a cache can run all of it, some of it, or none."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Backbone(nn.Module, ABC):
    """A network ``(z, t) -> raw output``, open as ``embed -> blocks -> head``.

    What the raw output means (score, noise, ...) is not decided here but in ``score.py``.

    Attributes:
        compiled: Whether sampling runs compiled code; see ``compiled.py``.
    """

    layers: nn.ModuleList
    compiled: bool = False

    def runs_compiled(self) -> bool:
        """Tell whether to run compiled code here and now."""
        return self.compiled and not torch.is_grad_enabled() and not torch.compiler.is_compiling()

    @abstractmethod
    def embed(self, z: Tensor, t: Tensor) -> Tensor:
        """Embed tokens ``(B, K, F)`` at time ``t`` (a scalar, or ``(B,)``) as features ``h⁰``, ``(B, K', d)``."""

    @abstractmethod
    def blocks(self, h: Tensor) -> Tensor:
        """Run all blocks on features ``(B, K', d)``; same shape out."""

    @abstractmethod
    def head(self, h: Tensor) -> Tensor:
        """Turn features of the last block into raw output ``(B, K, F)``."""

    def forward(self, z: Tensor, t: Tensor) -> Tensor:
        """Run the three parts in a row."""
        return self.head(self.blocks(self.embed(z, t)))


class Architecture(ABC):
    """The settings of a backbone: everything but the shape of the data."""

    @abstractmethod
    def build(self, tokens: int, features: int) -> Backbone:
        """Make a backbone with fresh weights for ``tokens`` tokens of ``features`` numbers."""


class FourierTime(nn.Module):
    """Diffusion time as random Fourier features and a dense layer (Tancik et al., arXiv 2006.10739).

    Args:
        width: Width of the result, even.
        scale: Standard deviation of the random frequencies, in cycles per unit of ``t``. The papers use 30;
            less makes the network smoother in time, which caches reward.
    """

    frequencies: Tensor

    def __init__(self, width: int, scale: float) -> None:
        super().__init__()
        self.register_buffer("frequencies", 2 * math.pi * scale * torch.randn(width // 2))
        self.dense = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Tensor) -> Tensor:
        """Embed times of shape ``()`` or ``(B,)`` as ``(1, 1, width)`` or ``(B, 1, width)``."""
        if not t.ndim and t.is_cpu and not torch.is_grad_enabled() and not torch.compiler.is_compiling():
            known = _known(self)
            if (row := known.get(float(t))) is not None:
                return row
        return self._embed(t)

    def _embed(self, t: Tensor) -> Tensor:
        angle = t.reshape(-1, 1, 1) * self.frequencies
        return self.dense(torch.cat([angle.sin(), angle.cos()], dim=-1))


_times: tuple[Tensor, dict[FourierTime, dict[float, Tensor]]] | None = None


@contextmanager
def embed_at_once(times: Tensor) -> Iterator[None]:
    """Let times ``(n,)`` that calls on a CPU inside a ``with`` block ask for be embedded all at once, the first time.

    Weights must not change meanwhile. A GPU would have to be waited for to tell which time is asked for.
    """
    global _times
    before, _times = _times, (times.float(), {})
    try:
        yield
    finally:
        _times = before


def _known(embedding: FourierTime) -> dict[float, Tensor]:
    if _times is None:
        return {}
    times, tables = _times
    if embedding not in tables:
        tables[embedding] = dict(zip(times.tolist(), embedding._embed(times).split(1), strict=True))
    return tables[embedding]


def check_positive(**settings: int) -> None:
    """Raise a ``ValueError`` naming the first setting that is below 1."""
    for name, value in settings.items():
        if value < 1:
            raise ValueError(f"expected {name} >= 1, got {value}: set `model.network.{name}`")
