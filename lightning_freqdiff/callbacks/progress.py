"""Progress bars: over the batches of an epoch, and over solver steps and batches with samples per second."""

from __future__ import annotations

import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar
from tqdm import tqdm

from lightning_freqdiff.hooks import SamplingCallback
from lightning_freqdiff.module import ScoreModule


class TrainingProgress(RichProgressBar):
    """Lightning's bar, without the number of the last epoch where steps or the clock end the run (it would be -2)."""

    def _get_train_description(self, current_epoch: int) -> str:
        return super()._get_train_description(current_epoch).replace("/-2", "")


class SamplingProgress(ProgressBar, SamplingCallback):
    """One line that moves with every solver step of a predict run; silent in other stages and on other ranks."""

    def __init__(self) -> None:
        super().__init__()
        self._bar: tqdm[Any] | None = None
        self._drawn = 0
        self._enabled = True
        self._since = 0.0

    def disable(self) -> None:
        """Stay silent, on ranks other than zero."""
        self._enabled = False

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar and follow the module's steps."""
        assert isinstance(pl_module, ScoreModule)
        if not self._enabled:
            return
        batches = int(sum(trainer.num_predict_batches))
        self._drawn, self._since = 0, time.perf_counter()
        self._bar = tqdm(total=batches * pl_module.sampling.num_steps, unit="step", desc="sampling", mininterval=0.5)

    def on_sampling_step(self, step: int) -> None:
        """Move on."""
        if self._bar is not None:
            self._bar.update()

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Show batches done and samples per second, over all ranks."""
        if self._bar is not None:
            self._drawn += len(outputs)
            rate = self._drawn * trainer.world_size / (time.perf_counter() - self._since)
            batches = int(sum(trainer.num_predict_batches))
            self._bar.set_postfix_str(f"batch {batch_idx + 1}/{batches}, {rate:.3g} samples/s")

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close the bar, so that the error starts on a line of its own."""
        self._close()
