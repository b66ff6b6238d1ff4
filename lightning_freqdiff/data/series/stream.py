"""Batches of series that are read as they are needed, in an order that a run which was cut short takes up again."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from lightning_freqdiff.data.series.dataset import Batch


class Streamed(Protocol):
    """Series that lie one after the other somewhere else."""

    def __len__(self) -> int: ...
    def shuffled(self, *seed: int) -> Streamed:
        """Return them in a random order of their pieces."""
        ...

    def cut(self, start: int, stop: int) -> Streamed:
        """Return some of them."""
        ...

    def whole(self, pool: ThreadPoolExecutor | None = None) -> Tensor:
        """Return them, ``(n, N, M)``."""
        ...


class Stream:
    """Batches of one rank's share of an epoch.

    The pieces are put in a random order, the same on every rank; the series, in that order, are shared out in equal
    runs, and every run is cut into windows, which are read ahead and shuffled within. A batch is thus a function of
    seed, epoch, rank and its number: any of them is found without those before it.

    Args:
        series: What is streamed.
        batch_size: Series in a batch.
        window: Series that are shuffled together; two windows are in memory.
        seed: Of the orders; none for series in their own order, the last batch of which may be smaller.
        ranks: Number of ranks.
        rank: This one.
        readers: Threads that read a window.
    """

    def __init__(
        self,
        series: Streamed,
        batch_size: int,
        window: int,
        seed: int | None = None,
        ranks: int = 1,
        rank: int = 0,
        readers: int = 1,
    ) -> None:
        self.series, self.batch_size, self.seed = series, batch_size, seed
        self.ranks, self.rank, self.readers = ranks, rank, readers
        self.share = len(series) // ranks
        self.in_window = max(1, window // batch_size)
        self.epoch, self.done = 0, 0

    def __len__(self) -> int:
        whole, rest = divmod(self.share, self.batch_size)
        return whole + (rest > 0 and (self.seed is None or whole == 0))

    def __iter__(self) -> Iterator[Batch]:
        first, self.done = self.done, 0
        with ThreadPoolExecutor(self.readers) as pool, ThreadPoolExecutor(1) as ahead:
            numbers = range(first // self.in_window, -(-len(self) // self.in_window))
            share = self._share()
            waiting = [ahead.submit(self._window, share, number, pool) for number in numbers[:1]]
            for number in numbers:
                batches = waiting.pop().result().split(self.batch_size)
                if number + 1 in numbers:
                    waiting.append(ahead.submit(self._window, share, number + 1, pool))
                for place, batch in enumerate(batches, number * self.in_window):
                    if place >= first:
                        self.done = place + 1  # before it is trained on, for what is saved then is about it
                        yield Batch(batch)
        self.epoch, self.done = self.epoch + 1, 0

    def _share(self) -> Streamed:
        every = self.series if self.seed is None else self.series.shuffled(self.seed, self.epoch)
        return every.cut(self.rank * self.share, (self.rank + 1) * self.share)

    def _window(self, share: Streamed, number: int, pool: ThreadPoolExecutor) -> Tensor:
        size = self.in_window * self.batch_size
        stop = min((number + 1) * size, len(self) * self.batch_size)
        series = share.cut(number * size, stop).whole(pool)
        if self.seed is None:
            return series
        order = np.random.default_rng((self.seed, self.epoch, self.rank, number)).permutation(len(series))
        return series[torch.from_numpy(order)]

    def state_dict(self) -> dict[str, Any]:
        """Return where the stream is; Lightning keeps it in every checkpoint."""
        return {"epoch": self.epoch, "series": self.done * self.batch_size * self.ranks}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there; with other batches or ranks, after as many series of another order."""
        self.epoch, self.done = state["epoch"], state["series"] // (self.batch_size * self.ranks)
