"""An encoder of series, trained by contrast: a small TS2Vec (Yue et al., AAAI 2022, arXiv 2106.10466)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, gelu, max_pool1d

from lightning_freqdiff.metrics.post_hoc import build, draw, fit, training
from lightning_freqdiff.metrics.samples import check_count


@dataclass(frozen=True)
class EncoderSettings:
    """How the encoder is built and trained.

    Args:
        embedding: Width of the embedding; there should be several times as many series.
        hidden: Width of the convolutions.
        depth: Number of residual blocks; the last one sees ``2 ** depth`` steps to either side.
        steps: Optimisation steps, which bound the cost.
        batch_size: Series per step, at least 2.
        window: Longest crop in a step; its square bounds the cost.
        lr: Learning rate of Adam.
        seed: Seeds initialisation, batches, crops and masks.
    """

    embedding: int = 64
    hidden: int = 32
    depth: int = 6
    steps: int = 300
    batch_size: int = 16
    window: int = 128
    lr: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("embedding", "hidden", "depth", "steps"):
            check_count(getattr(self, name), name)
        check_count(self.batch_size, "batch_size", least=2)
        check_count(self.window, "window", least=2)
        check_count(self.seed, "seed", least=0)
        if not self.lr > 0:
            raise ValueError(f"expected a positive learning rate, got {self.lr!r}: set `lr`")


class ResidualBlock(nn.Module):
    """Two dilated convolutions of width 3 beside the identity, ``(B, H, N)`` to the same."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation) for _ in range(2))

    def forward(self, h: Tensor) -> Tensor:
        """Add what the convolutions see."""
        return h + self.second(gelu(self.first(gelu(h))))


class DilatedEncoder(nn.Module):
    """Residual blocks of dilated convolutions: ``(B, N, M)`` to one vector per step, ``(B, N, C)``."""

    def __init__(self, channels: int, settings: EncoderSettings) -> None:
        super().__init__()
        width = settings.hidden
        self.enter = nn.Linear(channels, width)
        self.blocks = nn.Sequential(*(ResidualBlock(width, 2**i) for i in range(settings.depth)))
        self.leave = nn.Conv1d(width, settings.embedding, 1)

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """Encode each step in its context; steps where ``keep`` ``(B, N)`` is false are hidden."""
        h = self.enter(x)
        if keep is not None:
            # After the first layer, where zero is not a value that data can take (TS2Vec, section 3.2).
            h = h * keep[..., None]
        return self.leave(self.blocks(h.transpose(1, 2))).transpose(1, 2)

    def embed(self, x: Tensor) -> Tensor:
        """Embed whole series ``(B, N, M)`` by the largest activation over time, ``(B, C)``."""
        return self(x).amax(1)


def contrast(a: Tensor, b: Tensor) -> Tensor:
    """Contrast two views ``(G, P, C)`` of ``P`` things in ``G`` groups.

    Each view has to find the other of the same thing among the ``2P - 1`` other views in its group.
    """
    views = torch.cat([a, b], dim=1)
    count = views.shape[1]
    itself = torch.eye(count, dtype=torch.bool, device=a.device)
    similarity = (views @ views.transpose(1, 2)).masked_fill(itself, float("-inf"))
    partner = torch.arange(count, device=a.device).roll(count // 2)
    return cross_entropy(similarity.flatten(0, 1), partner.repeat(len(views)))


def hierarchical_contrast(a: Tensor, b: Tensor, coarsest: float = 1.0) -> Tensor:
    """Contrast two views ``(B, T, C)`` between series and between steps, at every scale of time.

    The mean of instance-wise (eq. 2) and temporal (eq. 1) losses of TS2Vec, averaged over the scales that
    max-pooling by 2 passes through (algorithm 1). At the coarsest scale there is no other step, and the loss between
    series alone has the weight ``coarsest``; the authors' code has 1/2.
    """
    losses = []
    while True:
        losses.append(contrast(a.transpose(0, 1), b.transpose(0, 1)))
        if a.shape[1] == 1:
            losses[-1] = coarsest * losses[-1]
            break
        losses[-1] = (losses[-1] + contrast(a, b)) / 2
        a, b = (max_pool1d(view.transpose(1, 2), 2).transpose(1, 2) for view in (a, b))
    return torch.stack(losses).mean()


def overlapping_crops(length: int, window: int, random: torch.Generator) -> tuple[range, range]:
    """Draw two crops of a series that overlap in at least two steps and span at most ``window``."""

    def integer(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=random))

    span = min(length, window)
    start = integer(0, length - span)
    overlap = integer(2, span)
    left = integer(0, span - overlap)
    right = left + overlap
    first, last = integer(0, left), integer(right, span)
    return range(start + first, start + right), range(start + left, start + last)


def two_views(
    encode: Callable[[Tensor, Tensor], Tensor], batch: Tensor, window: int, random: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Encode overlapping crops of series, half of their steps hidden, and return both where they overlap."""
    left, right = overlapping_crops(batch.shape[1], window, random)
    overlap = left.stop - right.start

    def view(crop: range) -> Tensor:
        keep = torch.rand(len(batch), len(crop), generator=random).to(batch.device) < 0.5
        return encode(batch[:, crop.start : crop.stop], keep)

    return view(left)[:, -overlap:], view(right)[:, :overlap]


def train_encoder(series: Tensor, settings: EncoderSettings) -> DilatedEncoder:
    """Train an encoder on series ``(m, N, M)`` of about unit scale, ``N >= 2``."""
    with training(series.device):
        random = torch.Generator().manual_seed(settings.seed)
        series = series.clone()
        net = build(lambda: DilatedEncoder(series.shape[-1], settings), settings.seed, series.device)

        def loss() -> Tensor:
            batch = draw(series, settings.batch_size, random)
            return hierarchical_contrast(*two_views(net, batch, settings.window, random))

        fit(net, loss, settings.steps, settings.lr)
    return net
