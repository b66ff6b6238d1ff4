"""Stop a training whose loss is no number, before anything of it is saved."""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import Tensor


class FiniteLoss(Callback):
    """Raise a one-line error where the loss or a weight is NaN or infinite.

    Losses are looked at on their own device, and the host reads one number every so many steps, before every
    validation and at the end, so that no step waits for it. Nothing is saved before the weights were looked at.

    Args:
        every_n_steps: Steps between two looks of the host.
    """

    def __init__(self, every_n_steps: int = 20) -> None:
        if every_n_steps < 1:
            raise ValueError(
                f"expected every_n_steps >= 1, got {every_n_steps}: set `trainer.callbacks.every_n_steps`"
            )
        self.every_n_steps = every_n_steps
        self._first: Tensor | None = None  # step of the first loss that was no number, 0 before

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the step of the first loss that is no number, without reading it."""
        loss = (outputs["loss"] if isinstance(outputs, dict) else outputs).detach()
        first = torch.zeros((), dtype=torch.long, device=loss.device) if self._first is None else self._first
        self._first = torch.where(loss.isfinite() | (first > 0), first, max(1, trainer.global_step))
        if trainer.global_step % self.every_n_steps == 0:
            self._look(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look before time is spent on validating."""
        self._look(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the validation loss, too, before a checkpoint is chosen by it."""
        loss = trainer.callback_metrics.get("val_loss")
        if trainer.state.fn == "fit" and loss is not None and not loss.isfinite():
            _stop(trainer, "a validation loss", trainer.global_step)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the steps since the last look."""
        self._look(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Let nothing be saved whose weights are no numbers."""
        if not torch.stack([p.detach().isfinite().all() for p in pl_module.parameters()]).all():
            _stop(trainer, "weights", trainer.global_step)

    def _look(self, trainer: Trainer) -> None:
        """Read the number that is kept on the device; ranks stop together."""
        first = 0 if self._first is None else int(self._first)
        if trainer.strategy.reduce_boolean_decision(first > 0, all=False):
            _stop(trainer, "a loss", first or trainer.global_step)


def _stop(trainer: Trainer, what: str, step: int) -> NoReturn:
    """Raise the error, which says what to do and what is left."""
    paths = [c.best_model_path for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint)]
    kept = next((f"the last good checkpoint is {path}" for path in paths if path), "no checkpoint was saved")
    raise ValueError(
        f"expected {what} of finite numbers, got NaN or infinity at step {step}: lower `model.learning_rate`, set "
        f"`trainer.precision` to 32-true, or look for extreme values in the data; {kept}"
    )
