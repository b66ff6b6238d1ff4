"""Series that are loaded, into memory or mapped from a file: checks, a seeded split, and what is told of each."""

import warnings
from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_freqdiff.condition import NOTHING, Condition
from lightning_freqdiff.data.base import SeriesData
from lightning_freqdiff.data.series.dataset import Batch, Rows, Shuffled, Told, numbers
from lightning_freqdiff.data.series.filling import Filled, GaussianFill
from lightning_freqdiff.data.series.series import Series, validate
from lightning_freqdiff.data.series.split import split
from lightning_freqdiff.data.series.units import columns_of
from lightning_freqdiff.vocabulary import Column, Examples, Vocabulary, classes_of

EXAMPLES = 256
"""Training series of which a checkpoint remembers what was known."""

STATISTICS_BATCH = 1024
"""Series whose covariates are looked at together."""


def _rows_of(x: np.ndarray, series: Series, index: np.ndarray) -> Rows:
    """Return some of the series: where they are, or copied."""
    if series.stays:
        return Rows(x, index if series.rows is None else series.rows[index])
    return Rows(x[index])


def _as_it_is(batch: Any) -> Any:
    """Collate nothing; a named function, since a lambda cannot go to a worker process."""
    return batch


class LoadedData(SeriesData):
    """Series of an array, in memory or mapped, with labels and what else is known of each.

    A subclass implements `_load`. Parts that the source gives (`Series.part`) are kept. Series in memory are copied
    part by part; those in a mapped file and windows over a long series stay in their place, and a part is a list of
    row numbers.

    Args:
        split_by: What series must share to stay on one side of the split, such as the patient: the name of an
            array or a column with a label for each series. Fractions are then met as nearly as whole groups allow.
        conditional: Tell the model the label of each series; it is not told if not given.
        **kwargs: Settings of `SeriesData`.
    """

    def __init__(self, split_by: str | None = None, conditional: bool | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
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
        names = series.channels[len(series.channels) - series.covariates :]
        beside = self._covariates["train"].batches(STATISTICS_BATCH) if self._covariates else ()
        return Vocabulary(classes, static, columns_of(names, beside), self.calendar, self.label_name)

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

    def reference_known(self, limit: int | None = None, part: str = "train") -> Condition:
        """Return what is known of the series that :meth:`reference_series` returns."""
        if not self.vocabulary:
            return NOTHING
        count, limit = len(self._part(part)), self._reference_limit(limit)
        return self._told(part).known(np.arange(count) if count <= limit else numbers(count, limit, self.seed))

    def reference_seen(self, limit: int | None = None, part: str = "train") -> Tensor | None:
        """Return 1 where a value of :meth:`reference_series` was observed, else 0; ``None`` where all were."""
        rows, limit = self._part(part), self._reference_limit(limit)
        count = len(rows)
        return rows.seen(np.arange(count) if count <= limit else numbers(count, limit, self.seed))

    @property
    def shape(self) -> tuple[int, int]:
        """Steps and channels `(N, M)` of a series."""
        _, steps, channels = self._part("train").x.shape
        return steps, channels

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the `M` channels."""
        self.setup()
        return self._channels

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
