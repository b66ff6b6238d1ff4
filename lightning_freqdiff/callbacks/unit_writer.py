"""What writers of samples have in common: what is left to do, units as they come, a closing word."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from lightning.pytorch import LightningModule, Trainer

from lightning_freqdiff.hooks import SamplingCallback
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.sampling import Sampling, WorkUnit


class UnitWriter(SamplingCallback, ABC):
    """Write the units of a predict run; a subclass knows where the bytes go, and what is there already."""

    def __init__(self) -> None:
        self._left: Sequence[WorkUnit] | None = None

    @abstractmethod
    def open(self, trainer: Trainer, module: ScoreModule) -> Sequence[WorkUnit]:
        """Start a run or take one up, and return the units that are left to do, the same ones on every rank."""

    @abstractmethod
    def put(self, trainer: Trainer, unit: WorkUnit, series: np.ndarray) -> None:
        """Keep the samples of a unit, ``(count, N, M)``."""

    def flush(self) -> None:
        """Return once all samples that were put are kept."""

    @abstractmethod
    def close(self, trainer: Trainer, module: ScoreModule) -> None:
        """Finish the run where nothing is missing, and say what is there; called on rank zero alone."""

    @abstractmethod
    def leave(self) -> None:
        """Let go of the place, whether or not all went well."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave the module only the work that is not done yet."""
        if stage != "predict":
            return
        assert isinstance(pl_module, ScoreModule)
        pl_module.check(pl_module.sampling)  # what cannot be had is refused before a folder is made
        self._left = self.open(trainer, pl_module)

    def remaining(self, sampling: Sampling) -> Sequence[WorkUnit] | None:
        """Return what is not there yet."""
        return self._left

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the unit's samples, unless there are none: it was padding, or another worker's."""
        if len(outputs) == 0:
            return
        series = outputs.float().cpu().numpy()
        check_finite(series, batch.first)
        self.put(trainer, batch, series)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Wait until all ranks have kept theirs, and close the run."""
        self.flush()
        trainer.strategy.barrier("samples")
        if trainer.is_global_zero:
            assert isinstance(pl_module, ScoreModule)
            self.close(trainer, pl_module)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave the place to the next run."""
        self._left = None
        self.leave()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Do so after an error, too, when teardown is not called."""
        self.teardown(trainer, pl_module, "predict")


def check_finite(series: np.ndarray, first: int) -> None:
    """Refuse samples, from number ``first`` on, that are no numbers."""
    if not np.isfinite(series).all():
        raise ValueError(
            f"samples {first} to {first + len(series) - 1} are not finite and were not kept: try more "
            "`sampling.num_steps`, another `sampling.solver` or `trainer.precision` 32-true"
        )
