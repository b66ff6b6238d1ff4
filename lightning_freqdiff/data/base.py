"""What every data set has in common: its settings, and what can be asked of it."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Protocol

from lightning.pytorch import LightningDataModule
from torch import Tensor

from lightning_freqdiff.condition import NOTHING, Condition, ConditionSizes
from lightning_freqdiff.data.series.ragged import Ragged
from lightning_freqdiff.data.series.windows import Stretch
from lightning_freqdiff.vocabulary import Examples, Vocabulary

REFERENCE_BYTES = 2**30
"""Memory that the series to compare with may take, where no number of them is asked for."""


def require_at_least(least: int, **settings: int) -> None:
    """Raise a ValueError that names the first setting below `least`, if there is one."""
    for name, value in settings.items():
        if value < least:
            raise ValueError(f"expected `data.{name}` of at least {least}, got {value}")


class Part(Protocol):
    """Series of one part of a data set, wherever they are."""

    def __len__(self) -> int: ...
    def batches(self, size: int) -> Iterator[Tensor]:
        """Yield all of them once, at most `size` at a time."""
        ...

    def whole(self) -> Tensor:
        """Return all of them in memory, `(n, N, M)`."""
        ...

    def some(self, count: int, seed: int) -> Tensor:
        """Return `count` of them, drawn with `seed`."""
        ...


class SeriesData(LightningDataModule, ABC):
    """Time series as shuffled batches `(B, N, M)` of float32, in train, validation and test parts.

    The parts depend on `seed` and the number of series only, so that every process of a distributed run makes the
    same ones; the validation part does not depend on `test_fraction`.

    Args:
        batch_size: Series in a batch, on each device.
        val_fraction: Share of the series to validate on, between 0 and 1 (at least one series).
        seed: Seed of the random split.
        num_workers: Processes that prepare batches; 0 is best for series in memory.
        test_fraction: Share of the series to test on; at 0 the validation part is tested on.

    Attributes:
        streamed: Whether series are read from elsewhere as they are needed, so that ranks should share the reading.
    """

    streamed: bool = False

    def __init__(
        self,
        batch_size: int = 64,
        val_fraction: float = 0.1,
        seed: int = 0,
        num_workers: int = 0,
        test_fraction: float = 0.0,
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

    @abstractmethod
    def setup(self, stage: str | None = None) -> None:
        """Find and part the series, the first time it is called (`stage` makes no difference)."""

    @abstractmethod
    def _part(self, name: str) -> Part:
        """Return the `train`, `val` or `test` part."""

    def long_series(self) -> tuple[Ragged, list[Stretch]] | None:
        """Return the long series that windows are cut from, as they came, and the part of each stretch of them.

        None where series are no windows.
        """
        return None

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """Steps and channels `(N, M)` of a series."""

    @property
    @abstractmethod
    def channels(self) -> tuple[str, ...]:
        """Names of the `M` channels."""

    @property
    def num_train(self) -> int:
        """Number of series to train on."""
        return len(self._part("train"))

    @property
    def format(self) -> str:
        """Format that samples are wanted back in: `npy`, or that of the table the series came from."""
        return "npy"

    @property
    def frame(self) -> str | None:
        """Library of the data frame that the series came from, such as pandas; none where they did not."""
        return None

    @property
    def vocabulary(self) -> Vocabulary:
        """Names and units of what a model of these series is told."""
        return Vocabulary()

    @property
    def conditions(self) -> ConditionSizes:
        """What a model of these series is told."""
        return self.vocabulary.sizes

    def examples(self) -> Examples:
        """Return what is known of some training series, drawn with `seed`."""
        return Examples()

    def _series(self, name: str) -> Tensor:
        return self._part(name).whole()

    def train_series(self) -> Tensor:
        """Return the series to train on, `(num_train, N, M)`, all in memory."""
        return self._series("train")

    def val_series(self) -> Tensor:
        """Return the series to validate on, `(num_val, N, M)`, all in memory."""
        return self._series("val")

    def test_series(self) -> Tensor:
        """Return the series to test on, all in memory: the validation part if `test_fraction` is 0."""
        return self._series("test")

    def train_batches(self, size: int, rank: int = 0, ranks: int = 1) -> Iterator[Tensor]:
        """Yield the series to train on once, `size` at a time, without holding more than those in memory.

        Args:
            size: Series in a batch, at most.
            rank: Whose share is wanted, where they are streamed.
            ranks: Number of shares.
        """
        return self._part("train").batches(size)

    def reference_series(self, limit: int | None = None, part: str = "train") -> Tensor:
        """Return series of a part to compare samples with: all, or `limit` of them drawn with `seed`.

        Args:
            limit: The most series to return; if not given, what takes 1 GiB of memory.
            part: `train`, `val` or `test`.
        """
        rows, limit = self._part(part), self._reference_limit(limit)
        return self._series(part) if len(rows) <= limit else rows.some(limit, self.seed)

    def reference_known(self, limit: int | None = None, part: str = "train") -> Condition:
        """Return what is known of the series that :meth:`reference_series` returns: here nothing."""
        return NOTHING

    def reference_seen(self, limit: int | None = None, part: str = "train") -> Tensor | None:
        """Return 1 where a value of :meth:`reference_series` was observed, else 0; here ``None``, for everywhere."""
        return None

    def _reference_limit(self, limit: int | None) -> int:
        steps, channels = self.shape
        return limit or max(1, REFERENCE_BYTES // (4 * steps * channels))

    def expect_shape(self, length: int, channels: int) -> None:
        """Load the series, and raise a ValueError where they are not of the shape ``(N, M)`` of a checkpoint."""
        self.setup("predict")
        if self.shape != (length, channels):
            raise ValueError(
                f"expected series of (N, M) = ({length}, {channels}) as in the checkpoint, got {self.shape}: "
                "set `data`"
            )
