"""The whole TS2Vec encoder, as published (Yue et al., AAAI 2022, arXiv 2106.10466), under the field's Context-FID."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu
from torch.optim.swa_utils import AveragedModel

from lightning_freqdiff.metrics.contrastive import ResidualBlock, hierarchical_contrast
from lightning_freqdiff.metrics.post_hoc import build, draw_distinct, training
from lightning_freqdiff.metrics.samples import check_count

SMALL = 100_000  # values, up to which TS2Vec takes fewer steps
DROPOUT = 0.1  # of the representation, while it is trained


@dataclass(frozen=True)
class TS2Vec:
    """How TS2Vec is built and trained; the defaults are those of the field's Context-FID.

    With them, 600 steps on series of 24 steps take about half a minute of a core, and in proportion to the length;
    the temporal contrast adds its square.

    Args:
        embedding: Width of the embedding.
        hidden: Width of the convolutions.
        depth: Number of residual blocks under the last, which widens; block ``i`` reaches ``2 ** (i + 1)`` steps.
        steps: Optimisation steps. By default TS2Vec's own: 200 up to 100,000 values in the data, and 600 above.
        batch_size: Series per step, at least 2.
        window: Longest piece of a series in a step.
        lr: Learning rate of AdamW.
        seed: Seeds initialisation, batches, crops, masks and dropout.
    """

    embedding: int = 320
    hidden: int = 64
    depth: int = 10
    steps: int | None = None
    batch_size: int = 8
    window: int = 3000
    lr: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("embedding", "hidden", "depth"):
            check_count(getattr(self, name), name)
        if self.steps is not None:
            check_count(self.steps, "steps")
        check_count(self.batch_size, "batch_size", least=2)
        check_count(self.window, "window", least=2)
        check_count(self.seed, "seed", least=0)
        if not self.lr > 0:
            raise ValueError(f"expected a positive learning rate, got {self.lr!r}: set `lr`")

    def steps_for(self, series: Tensor) -> int:
        """Return the number of optimisation steps on series ``(m, N, M)``."""
        return self.steps or (200 if series.numel() <= SMALL else 600)


class WideningBlock(nn.Module):
    """The last block, ``(B, H, N)`` to ``(B, C, N)``: two dilated convolutions beside a linear map."""

    def __init__(self, width: int, embedding: int, dilation: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(width, embedding, 3, padding=dilation, dilation=dilation)
        self.second = nn.Conv1d(embedding, embedding, 3, padding=dilation, dilation=dilation)
        self.beside = nn.Conv1d(width, embedding, 1)

    def forward(self, h: Tensor) -> Tensor:
        """Add what the convolutions see to what the map makes."""
        return self.beside(h) + self.second(gelu(self.first(gelu(h))))


class TS2VecEncoder(nn.Module):
    """Map series ``(B, N, M)`` to one vector per step, ``(B, N, C)`` (TS2Vec, section 3.2)."""

    def __init__(self, channels: int, settings: TS2Vec) -> None:
        super().__init__()
        width = settings.hidden
        self.enter = nn.Linear(channels, width)
        self.blocks = nn.Sequential(
            *(ResidualBlock(width, 2**i) for i in range(settings.depth)),
            WideningBlock(width, settings.embedding, 2**settings.depth),
        )

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """Encode each step in its context; steps where ``keep`` ``(B, N)`` is false are hidden."""
        h = self.enter(x)
        if keep is not None:
            h = h * keep[..., None]
        return self.blocks(h.transpose(1, 2)).transpose(1, 2)

    def embed(self, x: Tensor) -> Tensor:
        """Embed whole series ``(B, N, M)`` by the largest activation over time, ``(B, C)``."""
        return self(x).amax(1)


def shifted_crops(count: int, length: int, random: torch.Generator) -> tuple[Tensor, Tensor, int]:
    """Draw two crops that overlap, of one size for all series and at another place in each.

    Args:
        count: Number of series, ``B``.
        length: Their steps, ``N``, at least 2.
        random: What to draw by.

    Returns:
        The steps of the left crops ``(B, l)``, those of the right ``(B, r)``, and the overlap: the last steps of the
        one and the first of the other.
    """

    def integer(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=random))

    overlap = integer(2, length)
    left = integer(0, length - overlap)
    right = left + overlap
    first, last = integer(0, left), integer(right, length)
    start = torch.randint(0, length - (last - first) + 1, (count, 1), generator=random)
    return start + torch.arange(right - first), start + torch.arange(left - first, last - first), overlap


def train_ts2vec(series: Tensor, settings: TS2Vec) -> TS2VecEncoder:
    """Train an encoder on series ``(m, N, M)`` and return the mean of its weights over all steps.

    The batches of an epoch are distinct series and the last incomplete one is left out, as in the authors' code;
    weight decay is AdamW's own.
    """
    device, length = series.device, min(series.shape[1], settings.window)
    with training(device):
        random = torch.Generator().manual_seed(settings.seed)
        series = series.clone()
        net = build(lambda: TS2VecEncoder(series.shape[2], settings), settings.seed, device)
        averaged = AveragedModel(net)
        averaged.update_parameters(net)
        optimizer = torch.optim.AdamW(net.parameters(), settings.lr)
        size, order = min(settings.batch_size, len(series)), torch.empty(0, dtype=torch.long)
        for _ in range(settings.steps_for(series)):
            if len(order) < size:
                order = draw_distinct(torch.arange(len(series)), len(series), random)
            rows, order = order[:size], order[size:]
            offset = int(torch.randint(series.shape[1] - length + 1, (), generator=random))
            batch = series[rows.to(device), offset : offset + length]
            optimizer.zero_grad()
            hierarchical_contrast(*shifted_views(net, batch, random), coarsest=0.5).backward()
            optimizer.step()
            averaged.update_parameters(net)
    encoder = averaged.module
    assert isinstance(encoder, TS2VecEncoder)
    return encoder.eval()


def shifted_views(
    encode: Callable[[Tensor, Tensor], Tensor], batch: Tensor, random: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Encode two crops of series, half of their steps hidden, with dropout, and return both where they overlap."""
    left, right, overlap = shifted_crops(len(batch), batch.shape[1], random)
    rows = torch.arange(len(batch))[:, None]

    def view(steps: Tensor) -> Tensor:
        keep = torch.rand(steps.shape, generator=random) < 0.5
        encoded = encode(batch[rows.to(batch.device), steps.to(batch.device)], keep.to(batch.device))
        # By our own generator, so that nothing global decides.
        live = torch.rand(encoded.shape, generator=random) >= DROPOUT
        return encoded * live.to(encoded.device) / (1 - DROPOUT)

    return view(left)[:, -overlap:], view(right)[:, :overlap]
