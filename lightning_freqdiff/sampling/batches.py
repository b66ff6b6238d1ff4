"""Work units as a data loader, each rank with its share: what Lightning's predict loop goes through."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

from torch.utils.data import DataLoader, DistributedSampler

from lightning_freqdiff.sampling.loop import WorkUnit


def unit_loader(
    units: Sequence[WorkUnit], ranks: int, rank: int, turn: Callable[[WorkUnit], WorkUnit]
) -> DataLoader[WorkUnit]:
    """Load every ``ranks``-th unit, from number ``rank`` on, one at a time.

    Args:
        units: All units. Where there are fewer than ranks, empty ones keep in step those that have nothing to do.
        ranks: Number of ranks.
        rank: This one.
        turn: Says, when it comes to a unit and no sooner, what is to be drawn.
    """
    if 0 < len(units) < ranks:
        units = [*units, *[WorkUnit(units[0].seed, 0, 0)] * (ranks - len(units))]
    share = _Share(cast(Any, units), ranks, rank)
    return DataLoader(cast(Any, units), batch_size=1, sampler=share, collate_fn=lambda batch: turn(batch[0]))


class _Share(DistributedSampler[Any]):
    """Every world-size-th unit, no more and no less; Lightning's own wants at least one for each rank."""

    def __init__(self, units: Any, ranks: int, rank: int) -> None:
        super().__init__(units, ranks, rank, shuffle=False)
        self.share = range(rank, len(units), ranks)

    def __iter__(self) -> Iterator[int]:
        return iter(self.share)

    def __len__(self) -> int:
        return len(self.share)
