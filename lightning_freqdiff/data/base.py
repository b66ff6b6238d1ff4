"""What every data set has in common: checks, a seeded split, and loaders of `(B, N, M)` batches."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_freqdiff.condition import NOTHING, UNCONDITIONAL, Condition, ConditionSizes
from lightning_freqdiff.data.series.dataset import Batch, Rows, Shuffled, Told
from lightning_freqdiff.data.series.series import Series, validate
from lightning_freqdiff.data.series.split import split

REFERENCE_BYTES = 2**30
"""Memory that the series to compare with may take, where no number of them is asked for."""


def require_at_least(least: int, **settings: int) -> None:
    """Raise a ValueError that names the first setting below `least`, if there is one."""
    for name, value in settings.items():
        if value < least:
            raise ValueError(f"expected `data.{name}` of at least {least}, got {value}")


def _as_it_is(batch: Any) -> Any:
    """Collate nothing; a named function, since a lambda cannot go to a worker process."""
    return batch


class SeriesData(LightningDataModule, ABC):
    """Time series as shuffled batches `(B, N, M)` of float32, split into train, validation and test parts.

    A subclass implements `_load`. The split depends on `seed` and the number of series only, so every process
    of a distributed run makes the same one; the validation part does not depend on `test_fraction`. Parts that
    the source gives (`Series.part`) are kept. Series in memory are copied part by part; those in a mapped file
    and windows over a long series stay in their place, and a part is a list of row numbers.

    Args:
        batch_size: Series in a batch, on each device.
        val_fraction: Share of the series to validate on, between 0 and 1 (at least one series).
        seed: Seed of the random split.
        num_workers: Processes that prepare batches; 0 is best for series in memory.
        test_fraction: Share of the series to test on; at 0 the validation part is tested on.
        split_by: What series must share to stay on one side of the split, such as the patient: the name of an
            array or a column with a label for each series. Fractions are then met as nearly as whole groups allow.
        conditional: Tell the model what is known of each series: its label, and what else a data set may know.
    """

    def __init__(
        self,
        batch_size: int = 64,
        val_fraction: float = 0.1,
        seed: int = 0,
        num_workers: int = 0,
        test_fraction: float = 0.0,
        split_by: str | None = None,
        conditional: bool = False,
    ) -> None:
        super().__init__()
        if not 0 < val_fraction < 1:
            raise ValueError(f"expected `data.val_fraction` above 0 and below 1, got {val_fraction}")
        if not 0 <= test_fraction < 1:
            raise ValueError(f"expected `data.test_fraction` of at least 0 and below 1, got {test_fraction}")
        require_at_least(1, batch_size=batch_size)
        require_at_least(0, seed=seed, num_workers=num_workers)
        self.batch_size = batch_size
        self.val_fraction = val_fraction
        self.seed = seed
        self.num_workers = num_workers
        self.test_fraction = test_fraction
        self.split_by = split_by
        self.conditional = conditional
        self._known: dict[str, Condition] = {}
        self._sizes = UNCONDITIONAL
        self._parts: dict[str, Rows] = {}
        self._whole: dict[str, Tensor] = {}
        self._labels: dict[str, np.ndarray] = {}
        self._channels: tuple[str, ...] = ()
        self._source = ""

    @abstractmethod
    def _load(self) -> Series:
        """Read or make the series; called once.

        Where `split_by` is set, `Series.groups` must hold the labels it names.
        """

    def setup(self, stage: str | None = None) -> None:
        """Load, check and split the series, the first time it is called (`stage` makes no difference)."""
        if self._parts:
            return
        series = validate(self._load())
        if self.split_by is not None and series.groups is None:
            raise ValueError(
                f"{series.source}: expected labels named {self.split_by!r} to split by, got none; leave "
                "`data.split_by` out"
            )
        index = split(series, self.val_fraction, self.test_fraction, self.seed, self.split_by is not None)
        self._channels, self._source = series.channels, series.source
        if series.y is not None:
            self._labels = {name: series.y[rows] for name, rows in index.items()}
        if self.conditional:
            known = self.known(series)
            if not known:
                raise ValueError(f"{self._source}: expected labels, got none; leave `data.conditional` out")
            self._sizes = known.sizes
            self._known = {name: known.take(torch.from_numpy(rows)) for name, rows in index.items()}
        if series.stays:
            rows = series.rows
            self._parts = {k: Rows(series.x, i if rows is None else rows[i]) for k, i in index.items()}
        else:
            self._parts = {k: Rows(series.x[i]) for k, i in index.items()}
            self._whole = {k: part.whole() for k, part in self._parts.items()}

    def known(self, series: Series) -> Condition:
        """Return what the model is told of each of the series, where ``conditional`` is set: its label."""
        if series.y is None:
            return NOTHING
        return Condition(label=torch.from_numpy(np.unique(series.y, return_inverse=True)[1].reshape(-1)))

    @property
    def conditions(self) -> ConditionSizes:
        """What a model of these series is told."""
        self.setup()
        return self._sizes

    def _part(self, name: str) -> Rows:
        self.setup()
        return self._parts[name]

    def _series(self, name: str) -> Tensor:
        part = self._part(name)
        return self._whole[name] if name in self._whole else part.whole()

    def train_series(self) -> Tensor:
        """Return the series to train on, `(num_train, N, M)`, all in memory."""
        return self._series("train")

    def val_series(self) -> Tensor:
        """Return the series to validate on, `(num_val, N, M)`, all in memory."""
        return self._series("val")

    def test_series(self) -> Tensor:
        """Return the series to test on, all in memory: the validation part if `test_fraction` is 0."""
        return self._series("test")

    @property
    def streamed(self) -> bool:
        """Whether series are read from elsewhere as they are needed, so that ranks should share the reading."""
        return False

    def train_batches(self, size: int, rank: int = 0, ranks: int = 1) -> Iterator[Tensor]:
        """Yield the series to train on once, `size` at a time, without holding more than those in memory.

        Args:
            size: Series in a batch, at most.
            rank: Whose share is wanted, where it is streamed.
            ranks: Number of shares.
        """
        return self._part("train").batches(size)

    def reference_series(self, limit: int | None = None, part: str = "train") -> Tensor:
        """Return series of a part to compare samples with: all, or `limit` of them drawn with `seed`.

        Args:
            limit: The most series to return; if not given, what takes 1 GiB of memory.
            part: `train`, `val` or `test`.
        """
        rows = self._part(part)
        steps, channels = self.shape
        limit = limit or max(1, REFERENCE_BYTES // (4 * steps * channels))
        if len(rows) <= limit:
            return self._series(part)
        drawn = np.random.default_rng([self.seed, 2]).choice(len(rows), limit, replace=False, shuffle=False)
        return rows.__getitems__(np.sort(drawn))

    def expect_shape(self, length: int, channels: int) -> None:
        """Load the series, and raise a ValueError where they are not of the shape ``(N, M)`` of a checkpoint."""
        self.setup("predict")
        if self.shape != (length, channels):
            raise ValueError(
                f"expected series of (N, M) = ({length}, {channels}) as in the checkpoint, got {self.shape}: "
                "set `data`"
            )

    def labels(self, part: str = "train") -> np.ndarray:
        """Return the labels of a part, `(n,)`; raise a ValueError where there is nothing to tell apart."""
        self.setup()
        if part not in self._labels:
            raise ValueError(f"{self._source}: expected labels, got none; name them with `data.labels`")
        labels = self._labels[part]
        if len(np.unique(labels)) < 2:
            raise ValueError(
                f"{self._source}: expected labels of at least two classes in the {part} part, got only "
                f"{labels[0]!s}; choose other data with `data.path`, or another `data.seed`"
            )
        return labels

    @property
    def shape(self) -> tuple[int, int]:
        """Steps and channels `(N, M)` of a series."""
        _, steps, channels = self._part("train").x.shape
        return steps, channels

    @property
    def format(self) -> str:
        """Format that samples are wanted back in: `npy`, or that of the table the series came from."""
        return "npy"

    @property
    def frame(self) -> str | None:
        """Library of the data frame that the series came from, such as pandas; none where they did not."""
        return None

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the `M` channels."""
        self.setup()
        return self._channels

    @property
    def num_train(self) -> int:
        """Number of series to train on."""
        return len(self._part("train"))

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return shuffled batches of one size, or a single smaller batch where there is but one."""
        # Each process gets a share, so what counts is its size: dropping the last batch of a share smaller than a
        # batch would leave none.
        rows, trainer = self._part("train"), self.trainer
        sampler = Shuffled(rows, trainer.world_size, trainer.global_rank) if trainer else Shuffled(rows)
        return self._loader("train", sampler, drop_last=len(sampler) > self.batch_size)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return the validation part in order."""
        return self._loader("val")

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return the test part in order."""
        return self._loader("test")

    def _loader(self, part: str, sampler: Shuffled | None = None, drop_last: bool = False) -> DataLoader[Batch]:
        # A plain DataLoader, so that Lightning can put its DistributedSampler in where there is none.
        return DataLoader(
            Told(self._part(part), self._known.get(part, NOTHING)),
            batch_size=self.batch_size,
            sampler=sampler,
            drop_last=drop_last,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            collate_fn=_as_it_is,
        )
