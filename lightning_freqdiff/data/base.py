"""What every data set has in common: checks, a seeded split, and loaders of `(B, N, M)` batches."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lightning_freqdiff.data.series import Series, validate


def require_at_least(least: int, **settings: int) -> None:
    """Raise a ValueError that names the first setting below `least`, if there is one."""
    for name, value in settings.items():
        if value < least:
            raise ValueError(f"expected --data.{name} of at least {least}, got {value}")


class _Rows(Dataset[Tensor]):
    """Series in memory, of which a whole batch is fetched with one gather."""

    def __init__(self, x: Tensor) -> None:
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> Tensor:
        return self.x[index]

    def __getitems__(self, indices: Sequence[int]) -> Tensor:
        return self.x[torch.as_tensor(indices)]


def _as_it_is(batch: Any) -> Any:
    """Collate nothing; a named function, since a lambda cannot go to a worker process."""
    return batch


class SeriesData(LightningDataModule, ABC):
    """Time series as shuffled batches `(B, N, M)` of float32, split into train, validation and test parts.

    A subclass implements `_load`. The split depends on `seed` and the number of series only, so every process
    of a distributed run makes the same one; the validation part does not depend on `test_fraction`.

    Args:
        batch_size: Series in a batch, on each device.
        val_fraction: Share of the series to validate on, between 0 and 1 (at least one series).
        seed: Seed of the random split.
        num_workers: Processes that prepare batches; 0 is best for series in memory.
        test_fraction: Share of the series to test on; at 0 the validation part is tested on.
    """

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
            raise ValueError(f"expected --data.val_fraction above 0 and below 1, got {val_fraction}")
        if not 0 <= test_fraction < 1:
            raise ValueError(f"expected --data.test_fraction of at least 0 and below 1, got {test_fraction}")
        require_at_least(1, batch_size=batch_size)
        require_at_least(0, seed=seed, num_workers=num_workers)
        self.batch_size = batch_size
        self.val_fraction = val_fraction
        self.seed = seed
        self.num_workers = num_workers
        self.test_fraction = test_fraction
        self._parts: dict[str, Tensor] = {}
        self._channels: tuple[str, ...] = ()

    @abstractmethod
    def _load(self) -> Series:
        """Read or make the series; called once."""

    def setup(self, stage: str | None = None) -> None:
        """Load, check and split the series, the first time it is called (`stage` makes no difference)."""
        if self._parts:
            return
        series = validate(self._load())
        n = len(series.x)
        num_val = max(1, round(n * self.val_fraction))
        num_test = max(1, round(n * self.test_fraction)) if self.test_fraction else 0
        if num_val + num_test >= n:
            raise ValueError(
                f"{series.source}: expected a series to train on, but of {n}, {num_val} validate and "
                f"{num_test} test; lower --data.val_fraction (now {self.val_fraction}) or "
                f"--data.test_fraction (now {self.test_fraction})"
            )
        order = np.random.default_rng(self.seed).permutation(n)
        val, test, train = np.split(order, [num_val, num_val + num_test])
        self._channels = series.channels
        parts = {"train": train, "val": val, "test": test if num_test else val}
        self._parts = {name: torch.from_numpy(series.x[index]) for name, index in parts.items()}

    def train_series(self) -> Tensor:
        """Return the series to train on, `(num_train, N, M)`."""
        self.setup()
        return self._parts["train"]

    def val_series(self) -> Tensor:
        """Return the series to validate on, `(num_val, N, M)`."""
        self.setup()
        return self._parts["val"]

    def test_series(self) -> Tensor:
        """Return the series to test on: the validation part if `test_fraction` is 0."""
        self.setup()
        return self._parts["test"]

    @property
    def shape(self) -> tuple[int, int]:
        """Steps and channels `(N, M)` of a series."""
        _, steps, channels = self.train_series().shape
        return steps, channels

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the `M` channels."""
        self.setup()
        return self._channels

    @property
    def num_train(self) -> int:
        """Number of series to train on."""
        return len(self.train_series())

    def train_dataloader(self) -> DataLoader[Tensor]:
        """Return shuffled batches of one size, or a single smaller batch where there is but one."""
        # A distributed sampler deals the series out, so what counts is the share of one process: dropping the
        # last batch of a share smaller than a batch would leave none.
        share = -(-self.num_train // (self.trainer.world_size if self.trainer else 1))
        return self._loader(self.train_series(), shuffle=True, drop_last=share > self.batch_size)

    def val_dataloader(self) -> DataLoader[Tensor]:
        """Return the validation part in order."""
        return self._loader(self.val_series())

    def test_dataloader(self) -> DataLoader[Tensor]:
        """Return the test part in order."""
        return self._loader(self.test_series())

    def _loader(self, x: Tensor, shuffle: bool = False, drop_last: bool = False) -> DataLoader[Tensor]:
        # A plain DataLoader, so that Lightning can put its DistributedSampler in.
        return DataLoader(
            _Rows(x),
            batch_size=self.batch_size,
            shuffle=shuffle,
            drop_last=drop_last,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            collate_fn=_as_it_is,
        )
