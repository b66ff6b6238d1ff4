"""What every data set has in common: checks, a seeded split, and loaders of `(B, N, M)` batches."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_freqdiff.condition import NOTHING, Condition, ConditionSizes
from lightning_freqdiff.data.series.dataset import Batch, Rows, Shuffled, Told
from lightning_freqdiff.data.series.filling import Filled, GaussianFill
from lightning_freqdiff.data.series.ragged import Ragged
from lightning_freqdiff.data.series.series import Series, validate
from lightning_freqdiff.data.series.split import split
from lightning_freqdiff.data.series.windows import Stretch
from lightning_freqdiff.vocabulary import Column, Examples, Vocabulary, classes_of

EXAMPLES = 256
"""Training series of which a checkpoint remembers what was known."""

STATISTICS_BATCH = 1024
"""Series whose covariates are looked at together."""

REFERENCE_BYTES = 2**30
"""Memory that the series to compare with may take, where no number of them is asked for."""


def require_at_least(least: int, **settings: int) -> None:
    """Raise a ValueError that names the first setting below `least`, if there is one."""
    for name, value in settings.items():
        if value < least:
            raise ValueError(f"expected `data.{name}` of at least {least}, got {value}")


def _rows_of(x: np.ndarray, series: Series, index: np.ndarray) -> Rows:
    """Return some of the series: where they are, or copied."""
    if series.stays:
        return Rows(x, index if series.rows is None else series.rows[index])
    return Rows(x[index])


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
        conditional: Tell the model the label of each series; it is not told if not given.
    """

    def __init__(
        self,
        batch_size: int = 64,
        val_fraction: float = 0.1,
        seed: int = 0,
        num_workers: int = 0,
        test_fraction: float = 0.0,
        split_by: str | None = None,
        conditional: bool | None = None,
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
        # None and not false by default: a class chosen by a flag keeps what the default one says.
        self.conditional = bool(conditional)
        self._known: dict[str, Condition] = {}
        self._covariates: dict[str, Rows] = {}
        self._vocabulary = Vocabulary()
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
        own = len(series.channels) - series.covariates
        self._channels, self._source = series.channels[:own], series.source
        if series.y is not None:
            self._labels = {name: series.y[rows] for name, rows in index.items()}
        if self.conditional and series.y is None:
            raise ValueError(f"{self._source}: expected labels, got none; leave `data.conditional` out")
        # What is known at every step is the last of the channels; views of either are no copies.
        values, beside = (series.x[..., :own], series.x[..., own:]) if series.covariates else (series.x, None)
        if beside is not None:
            self._covariates = {name: _rows_of(beside, series, rows) for name, rows in index.items()}
        self._vocabulary = self._learn(series, index["train"])
        if known := self.known(series):
            self._known = {name: known.take(torch.from_numpy(rows)) for name, rows in index.items()}
        parts: dict[str, Rows] = {name: _rows_of(values, series, rows) for name, rows in index.items()}
        if series.gaps:
            fill = GaussianFill(lambda: parts["train"].batches(STATISTICS_BATCH), self.seed, series.source)
            parts = {name: Filled(rows, fill, not series.stays) for name, rows in parts.items()}
        self._parts = parts
        if not series.stays:
            self._whole = {k: part.whole() for k, part in self._parts.items()}

    def _learn(self, series: Series, training: np.ndarray) -> Vocabulary:
        """Learn the names and units of what the model is told; units from the training part."""
        told = self.conditional and series.y is not None
        classes = classes_of(series.y, series.source) if told and series.y is not None else ()
        static = tuple(Column.of(name, column, training) for name, column in series.static.items())
        covariates = ()
        if self._covariates:
            count = total = squares = torch.zeros(series.covariates, dtype=torch.float64)
            for batch in self._covariates["train"].batches(STATISTICS_BATCH):
                rows = batch.flatten(0, 1).double()
                count, total = count + (~rows.isnan()).sum(0), total + rows.nansum(0)
                squares = squares + rows.square().nansum(0)
            mean = total / count.clamp(min=1)
            deviation = (squares / count.clamp(min=1) - mean.square()).clamp(min=0).sqrt()
            units = zip(mean.tolist(), deviation.tolist(), strict=True)
            names = series.channels[len(series.channels) - series.covariates :]
            covariates = tuple(
                Column(name, (), mean, scale or 1.0) for name, (mean, scale) in zip(names, units, strict=True)
            )
        return Vocabulary(classes, static, covariates, self.calendar, self.label_name)

    def known(self, series: Series) -> Condition:
        """Return what the model is told of each of the series as a whole: label and static covariates."""
        told = {"label": series.y} if self._vocabulary.classes else {}
        known = self._vocabulary.encode({**told, **series.static})
        if known.label is not None and (count := int((known.label < 0).sum())):
            warnings.warn(
                f"{series.source}: {count} of {len(series)} series have no label, or -1: the model is told so",
                stacklevel=2,
            )
        return known

    def long_series(self) -> tuple[Ragged, list[Stretch]] | None:
        """Return the long series that windows are cut from, as they came, and the part of each stretch of them.

        None where series are no windows.
        """
        return None

    @property
    def label_name(self) -> str:
        """What the column of the labels is called."""
        return "label"

    @property
    def calendar(self) -> tuple[str, ...]:
        """What the model is told of time stamps."""
        return ()

    @property
    def vocabulary(self) -> Vocabulary:
        """Names and units of what a model of these series is told."""
        self.setup()
        return self._vocabulary

    @property
    def conditions(self) -> ConditionSizes:
        """What a model of these series is told."""
        return self.vocabulary.sizes

    def examples(self) -> Examples:
        """Return what is known of some training series, drawn with `seed`."""
        told = self._told("train")
        drawn = np.random.default_rng([self.seed, 3]).permutation(len(told))[:EXAMPLES]
        return Examples.of(told.known(drawn))

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
        rows, drawn = self._part(part), self._reference_rows(limit, part)
        return self._series(part) if drawn is None else rows.__getitems__(drawn)

    def reference_known(self, limit: int | None = None, part: str = "train") -> Condition:
        """Return what is known of the series that :meth:`reference_series` returns."""
        if not self.vocabulary:
            return NOTHING
        drawn = self._reference_rows(limit, part)
        return self._told(part).known(np.arange(len(self._part(part))) if drawn is None else drawn)

    def _reference_rows(self, limit: int | None, part: str) -> np.ndarray | None:
        """Return which series of a part are compared with; none where it is all of them."""
        count, (steps, channels) = len(self._part(part)), self.shape
        limit = limit or max(1, REFERENCE_BYTES // (4 * steps * channels))
        if count <= limit:
            return None
        drawn = np.random.default_rng([self.seed, 2]).choice(count, limit, replace=False, shuffle=False)
        return np.sort(drawn)

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

    def _told(self, part: str) -> Told:
        """Return the series of a part with what is known of them."""
        rows, columns = self._part(part), self._vocabulary.covariates
        units = torch.tensor([[one.mean for one in columns], [one.scale for one in columns]])
        return Told(rows, self._known.get(part, NOTHING), self._covariates.get(part), units if columns else None)

    def _loader(self, part: str, sampler: Shuffled | None = None, drop_last: bool = False) -> DataLoader[Batch]:
        # A plain DataLoader, so that Lightning can put its DistributedSampler in where there is none.
        return DataLoader(
            self._told(part),
            batch_size=self.batch_size,
            sampler=sampler,
            drop_last=drop_last,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            collate_fn=_as_it_is,
        )
