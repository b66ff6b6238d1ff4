"""Small networks trained inside a metric: reproducible, and leaving no trace outside."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from lightning_freqdiff.metrics.projections import exact_matmul
from lightning_freqdiff.metrics.samples import check_count

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class PostHoc:
    """How a post-hoc network is built and trained; scores compare only under equal settings.

    With the defaults, 187 steps a series take a minute or two on one core.

    Args:
        hidden: Width of the recurrent layers.
        layers: Number of recurrent layers.
        steps: Optimisation steps, which bound the cost.
        batch_size: Series per step, of each class.
        lr: Learning rate of Adam.
        seed: Seeds initialisation, split and batches.
    """

    hidden: int = 32
    layers: int = 2
    steps: int = 500
    batch_size: int = 128
    lr: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("hidden", "layers", "steps", "batch_size"):
            check_count(getattr(self, name), name)
        check_count(self.seed, "seed", least=0)
        if not self.lr > 0:
            raise ValueError(f"expected a positive learning rate, got {self.lr!r}: set `lr`")


class RecurrentHead(nn.Module):
    """Gated recurrent units with a linear output at every step: ``(B, N, inputs)`` to ``(B, N)``.

    With several ``outputs``, to ``(B, N, outputs)``.
    """

    def __init__(self, inputs: int, hidden: int, layers: int, outputs: int = 1) -> None:
        super().__init__()
        self.gru = nn.GRU(inputs, hidden, layers, batch_first=True)
        self.head = nn.Linear(hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return what each step and those before it tell."""
        return self.head(self.gru(x)[0]).squeeze(-1)


@contextmanager
def training(device: torch.device) -> Iterator[None]:
    """Allow training inside the context, also within Lightning's validation loop.

    There, inference mode and autocast are on. Tensors made outside have to be cloned inside.
    """
    # Leaving inference mode turns gradients on as well, also where only those were off.
    with torch.inference_mode(False), exact_matmul(device):
        yield


def build(network: Callable[[], Network], seed: int, device: torch.device) -> Network:
    """Build a network from a seed on any device, leaving the global random state as it was."""
    # Not torch.manual_seed: that would seed the accelerators' generators as well.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return network().to(device)


def fit(network: nn.Module, loss: Callable[[], Tensor], steps: int, lr: float) -> None:
    """Take some steps of Adam down a loss that draws its own batches."""
    optimizer = torch.optim.Adam(network.parameters(), lr)
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    network.eval()


def draw(x: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draw rows of ``x`` with replacement, by a generator on the CPU."""
    return x[torch.randint(len(x), (count,), generator=generator).to(x.device)]


def draw_distinct(x: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draw rows of ``x`` without replacement, all of them where there are no more than ``count``."""
    return x[torch.randperm(len(x), generator=generator)[:count].to(x.device)]


def batched(network: Callable[[Tensor], Tensor], x: Tensor, size: int = 1024) -> Tensor:
    """Apply a network without gradient, in batches that bound its memory."""
    with torch.no_grad():
        return torch.cat([network(part) for part in x.split(size)])


def standardize(x: Tensor, reference: Tensor) -> Tensor:
    """Bring channels of ``(n, N, M)`` to the reference's zero mean and unit deviation, in float32.

    A constant channel keeps its scale.
    """
    mean, spread = reference.mean((0, 1)), reference.std((0, 1), correction=0)
    return ((x - mean) / torch.where(spread > 0, spread, 1.0)).float()
