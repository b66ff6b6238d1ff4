"""Progress: bars where there is a terminal, and else a plain line now and then, as a log file wants it."""

from __future__ import annotations

import sys
import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar
from rich import get_console
from tqdm import tqdm

from lightning_freqdiff.hooks import SamplingCallback
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.schedule import at_end

EVERY = 30.0
"""Seconds between two lines, at least, where there is no terminal."""


class TrainingProgress(RichProgressBar):
    """Lightning's bar, without the number of the last epoch where steps or the clock end the run (it would be -2).

    Where there is no terminal, a line at the first validation, at the last, and now and then between.
    """

    def __init__(self) -> None:
        super().__init__()
        self._told = -EVERY

    @property
    def is_enabled(self) -> bool:
        """Whether there is a bar."""
        return super().is_enabled and _watched()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write a line where there is no bar and it is time for one."""
        super().on_validation_end(trainer, pl_module)
        now = time.monotonic()
        due = now - self._told >= EVERY or at_end(trainer)
        if super().is_enabled and not _watched() and trainer.state.fn == "fit" and due:
            self._told = now
            shown = {k: float(v) for k, v in trainer.progress_bar_metrics.items() if isinstance(v, (int, float))}
            values = ", ".join(f"{name} {value:.4g}" for name, value in sorted(shown.items()) if name != "v_num")
            print(f"step {trainer.global_step:,}, epoch {trainer.current_epoch}: {values}", flush=True)

    def _get_train_description(self, current_epoch: int) -> str:
        return super()._get_train_description(current_epoch).replace("/-2", "")


def _watched() -> bool:
    console = get_console()
    return console.is_terminal or console.is_jupyter


class SamplingProgress(ProgressBar, SamplingCallback):
    """A bar that moves with every solver step of a predict run; silent in other stages and on other ranks.

    Where there is no terminal, a line now and then and at the end.
    """

    def __init__(self) -> None:
        super().__init__()
        self._bar: tqdm[Any] | None = None
        self._drawn = self._steps = self._total = 0
        self._enabled = True
        self._since = self._told = 0.0

    def disable(self) -> None:
        """Stay silent, on ranks other than zero."""
        self._enabled = False

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar and follow the module's steps."""
        assert isinstance(pl_module, ScoreModule)
        self._total = int(sum(trainer.num_predict_batches)) * pl_module.sampling.num_steps
        self._drawn, self._steps, self._since = 0, 0, time.perf_counter()
        self._told = self._since
        if self._enabled and sys.stderr.isatty():
            self._bar = tqdm(total=self._total, unit="step", desc="sampling", mininterval=0.5)

    def on_sampling_step(self, step: int) -> None:
        """Move on."""
        self._steps += 1
        if self._bar is not None:
            self._bar.update()
        elif self._enabled and time.perf_counter() - self._told >= EVERY:
            self._tell(f"step {self._steps:,}/{self._total:,}")

    def _tell(self, done: str) -> None:
        self._told = time.perf_counter()
        print(f"sampling: {done}", file=sys.stderr, flush=True)

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
        self._drawn += len(outputs)
        batches, seconds = int(sum(trainer.num_predict_batches)), time.perf_counter() - self._since
        done = f"batch {batch_idx + 1}/{batches}, {self._drawn * trainer.world_size / seconds:.3g} samples/s"
        if self._bar is not None:
            self._bar.set_postfix_str(done)
        elif self._enabled and batch_idx + 1 == batches:
            self._tell(done)

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
