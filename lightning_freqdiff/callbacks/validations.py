"""When to validate: so many times in a run, whatever ends it, and once before its first step."""

from __future__ import annotations

import sys
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, Timer

from lightning_freqdiff.schedule import clock_share, total_steps

NEVER = sys.maxsize
"""A number of batches that no run reaches."""


class Validations(Callback):
    """Validate evenly over a run, by steps or by the clock, at its end, and once before its first step.

    Small and large data sets get the same number of validations, however long an epoch is. The one before the first
    step makes the untrained network a candidate for the best checkpoint, so that a run which only gets worse keeps
    the Gaussian that it began with. Where ``trainer.val_check_interval`` or ``trainer.check_val_every_n_epoch`` is
    set, the validations that follow are Lightning's own.

    Args:
        count: Validations of a run after its first step.
    """

    def __init__(self, count: int = 16) -> None:
        if count < 1:
            raise ValueError(f"expected count >= 1, got {count}: set `trainer.callbacks.count`")
        self.count, self._total, self._seen = count, 1, 0
        self._ours = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find out whether the settings leave it to us; checkpoints then know that no epoch's end matters."""
        if stage != "fit" or trainer.fast_dev_run:  # pyright: ignore[reportAttributeAccessIssue]
            return
        self._ours = trainer.val_check_interval == 1.0 and trainer.check_val_every_n_epoch == 1
        if self._ours:
            trainer.check_val_every_n_epoch = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validate what has not been trained, and save it."""
        self._total = total_steps(trainer)
        self._seen = int(self.count * self._share(trainer))
        if trainer.global_step or not trainer.enable_validation or trainer.fast_dev_run:  # pyright: ignore
            return
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint):
                callback._last_global_step_saved = -1  # else Lightning saves nothing before the first step
        trainer.validating = True
        trainer.fit_loop.epoch_loop.val_loop.run()
        trainer.training = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Ask for a validation after this batch where one is due."""
        if not self._ours:
            return
        reached = int(self.count * self._share(trainer))
        # The trainer validates after every multiple of these batches: now, or not yet.
        trainer.val_check_batch = trainer.fit_loop.total_batch_idx + 1 if reached > self._seen else NEVER
        self._seen = reached

    def _share(self, trainer: Trainer) -> float:
        """Return how far the run is, from 0 to 1, the same on every rank."""
        share = trainer.global_step / self._total
        if any(isinstance(c, Timer) for c in trainer.callbacks):  # pyright: ignore[reportAttributeAccessIssue]
            share = max(share, trainer.strategy.broadcast(clock_share(trainer)))
        return min(1.0, share)
