"""Write the samples of a predict run as a data set of many files, beside any number of workers that do the same."""

from __future__ import annotations

import re
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import overload

import numpy as np
from lightning.pytorch import Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from lightning_freqdiff.callbacks.identity import identity_of
from lightning_freqdiff.callbacks.unit_writer import UnitWriter
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.sampling import Sampling, WorkUnit
from lightning_freqdiff.shards.dataset import SampleSet
from lightning_freqdiff.shards.formats import check_format

WAITING = 2
"""Units that are being written while the next one is drawn, at most."""


@dataclass(frozen=True)
class Shard:
    """Part ``number`` of ``count`` equal parts of the units."""

    number: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read what a user wrote: ``i/n``, with ``i`` from 0 to ``n - 1``.

        >>> Shard.parse("3/4").of(10)
        (7, 10)
        """
        found = re.fullmatch(r"(\d+)/(\d+)", text.strip())
        if not found or not int(found[1]) < int(found[2]):
            raise ValueError(f"expected a shard i/n with i from 0 to n - 1, got {text}: set `sampling.shard`")
        return cls(int(found[1]), int(found[2]))

    def of(self, units: int) -> tuple[int, int]:
        """Return the range of units that is this part."""
        return units * self.number // self.count, units * (self.number + 1) // self.count


@dataclass(frozen=True)
class _Numbered(Sequence[WorkUnit]):
    """Units by number: ten million of them take 80 MB, and not gigabytes."""

    sampling: Sampling
    numbers: np.ndarray

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, index: int) -> WorkUnit: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[WorkUnit]: ...
    def __getitem__(self, index: int | slice) -> WorkUnit | Sequence[WorkUnit]:
        if isinstance(index, slice):
            return _Numbered(self.sampling, self.numbers[index])
        first = int(self.numbers[index]) * self.sampling.batch_size
        count = min(self.sampling.batch_size, self.sampling.num_samples - first)
        return WorkUnit(self.sampling.seed, first, count)


class ShardWriter(UnitWriter):
    """Write every unit of ``batch_size`` samples as a file of its own, while the next one is drawn.

    Any number of workers may run the same command, at the same time or after each other: each draws what it finds
    missing, in an order of its own. What another says it is drawing comes last, and is drawn if it does not come:
    that worker may be slow, or gone. With ``shard`` a worker keeps to its part.

    Args:
        output: Folder of the data set, a path or a URL that fsspec knows, such as ``s3://bucket/run``. Empty or new,
            or that of the same run.
        format: parquet, npy or zarr.
        shard: ``i/n``, to draw part ``i`` (0 to ``n - 1``) of ``n`` alone, as an element of a job array does.
    """

    def __init__(self, output: str, format: str = "parquet", shard: str | None = None) -> None:
        super().__init__()
        check_format(format)
        self.output, self.format = output, format
        self.shard = None if shard is None else Shard.parse(shard)
        self.samples: SampleSet | None = None
        self._range = (0, 0)
        self._todo: Iterator[int] = iter(())
        self._claimed: set[int] = set()
        self._name, self._kept = "", ""
        self._pool: ThreadPoolExecutor | None = None
        self._writing: deque[Future[None]] = deque()

    def open(self, trainer: Trainer, module: ScoreModule) -> Sequence[WorkUnit]:
        """Start or join the data set."""
        sampling, layout = module.sampling, module.layout
        self.samples = SampleSet(self.output)
        shape = sampling.num_samples, layout.length, layout.channels
        found = np.empty(0, np.int64)
        if trainer.is_global_zero:
            identity = identity_of(trainer, module)
            self.samples.open(identity, shape, sampling.batch_size, self.format, module.channels)
            self._range = (self.shard or Shard()).of(self.samples.units)
            found = self.samples.missing(*self._range)
            if self.shard is None:  # workers that go different ways seldom draw the same unit
                np.random.default_rng(secrets.randbits(64)).shuffle(found)
        # One look at the store: what the ranks share out must be the same, whoever else writes meanwhile.
        numbers = trainer.strategy.broadcast(found)
        self._todo = in_turn(self.samples, map(int, numbers[trainer.global_rank :: trainer.world_size]))
        self._name = secrets.token_hex(8)
        self.samples.read()
        self._range = (self.shard or Shard()).of(self.samples.units)
        every = self._range[1] - self._range[0]
        if len(numbers) < every:
            rank_zero_info(f"{self.output}: {every - len(numbers)} of {every} units are there, {len(numbers)} to do")
        self._pool = ThreadPoolExecutor(1)
        return _Numbered(sampling, numbers)

    def turn(self, unit: WorkUnit) -> WorkUnit:
        """Claim a unit that nobody has drawn or claimed since the start; nobody else draws those of a shard."""
        if self.samples is None or self.shard is not None or unit.count == 0:
            return unit
        number = next(self._todo, None)
        if number is None:
            return unit._replace(count=0)
        self._claimed.add(number)
        self.samples.claim(number, self._name)
        encoding = self.samples.encoding
        return WorkUnit(unit.seed, number * encoding.size, encoding.count(number))

    def put(self, trainer: Trainer, unit: WorkUnit, series: np.ndarray) -> None:
        """Hand the unit to the thread that writes."""
        assert self._pool is not None
        self._wait(WAITING - 1)
        self._writing.append(self._pool.submit(self._put, unit, series))

    def _put(self, unit: WorkUnit, series: np.ndarray) -> None:
        assert self.samples is not None
        number = unit.first // self.samples.encoding.size
        self.samples.put(number, series)
        if number in self._claimed:
            self._delete(lambda samples: samples.release(number, self._name))
            self._claimed.remove(number)

    def _delete(self, what: Callable[[SampleSet], None]) -> None:
        """Delete claims, which bind nobody: a store that lets nobody delete is no reason to end a run."""
        assert self.samples is not None
        try:
            what(self.samples)
        except OSError as error:
            self._kept = " ".join(str(error).split()) or type(error).__name__

    def flush(self) -> None:
        """Wait until all is written."""
        self._wait(0)

    def close(self, trainer: Trainer, module: ScoreModule) -> None:
        """Say what is there."""
        assert self.samples is not None
        missing, every = len(self.samples.missing(*self._range)), self._range[1] - self._range[0]
        what = "" if self.shard is None else f"shard {self.shard.number}/{self.shard.count}, "
        if missing:  # `trainer.limit_predict_batches`, for instance
            rank_zero_info(
                f"{self.output}: {what}{missing} of {every} units are missing; the same command draws them"
            )
        else:
            self._delete(lambda samples: samples.tidy(*self._range))
            rank_zero_info(f"samples: {self.output} ({what}{every} units)")
        if self._kept:
            rank_zero_info(
                f"{self.output}: notes on who draws what (`_units/*/*-claimed-*`) cannot be deleted; they do no harm "
                f"({self._kept})"
            )

    def _wait(self, most: int) -> None:
        """Wait until no more than so many units are being written; what went wrong there is raised here."""
        while len(self._writing) > most:
            self._writing.popleft().result()

    def leave(self) -> None:
        """Write to its end what was begun, and leave the store."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        if self.samples is not None:
            for number in self._claimed:
                self._delete(lambda samples, number=number: samples.release(number, self._name))
        self._claimed.clear()
        self._writing.clear()
        self.samples = self._pool = None


def in_turn(samples: SampleSet, units: Iterable[int]) -> Iterator[int]:
    """Go through units that nobody has drawn by the time it is their turn; last, through what others have claimed.

    Those are given as long as a unit took here, as most are under way: to draw them at once would end later.
    """
    claimed: deque[int] = deque()
    pace = 0.0
    for unit in units:
        done, taken = samples.look(unit)
        if taken and not done:
            claimed.append(unit)
        elif not done:
            since = time.monotonic()
            yield unit
            pace = max(pace, time.monotonic() - since)  # the last unit may be a small one
    patience = time.monotonic() + pace
    while claimed:
        done, _ = samples.look(claimed[0])
        if not done and time.monotonic() < patience:
            time.sleep(pace / 20)
            continue
        unit = claimed.popleft()
        if not done:
            yield unit
