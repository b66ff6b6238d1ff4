"""How a model is trained where nothing else is said, from Python and on the command line alike.

The callbacks are imported where they are made: the help that names the budget needs none of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning.pytorch import Callback

FIT_STEPS = 700
"""Steps of a run that nothing else is said of: under three minutes of the default network on two CPU cores."""

TRAINER: dict[str, Any] = {
    "gradient_clip_val": 1.0,
    "log_every_n_steps": 20,
    "num_sanity_val_steps": 0,
    "enable_model_summary": False,
}

AVERAGING: dict[str, Any] = {"decay": 0.995}
"""Weights that are validated, saved and sampled from are a moving average."""

CHECKPOINT: dict[str, Any] = {
    "monitor": "val_loss",
    "filename": "best",
    "save_last": True,
    "enable_version_counter": False,
}

STOPPING: dict[str, Any] = {"monitor": "val_loss", "patience": 6, "check_on_train_epoch_end": False}
"""Small data sets are learnt by heart long before the steps are over."""


def steps_without_budget(max_steps: int, max_epochs: int | None, max_time: Any) -> int:
    """Return the steps to train for: those asked for, or ``FIT_STEPS`` where no budget of any kind was named."""
    return FIT_STEPS if max_epochs is None and max_time is None and max_steps == -1 else max_steps


def watching(callbacks: Sequence[Callback], progress: bool = True) -> list[Callback]:
    """Return what watches over every training beside the callbacks asked for."""
    from lightning.pytorch.callbacks import ProgressBar

    from lightning_freqdiff.callbacks import FiniteLoss, Refit, TrainingProgress, Validations

    bar = [TrainingProgress()] if progress and not any(isinstance(c, ProgressBar) for c in callbacks) else []
    return [Validations(), FiniteLoss(), Refit(), *bar]


def saving(folder: str | None = None) -> list[Callback]:
    """Return averaging, checkpoint and early stopping, for a trainer that has none of its own."""
    from lightning.pytorch.callbacks import EarlyStopping, EMAWeightAveraging, ModelCheckpoint

    return [EMAWeightAveraging(**AVERAGING), ModelCheckpoint(folder, **CHECKPOINT), EarlyStopping(**STOPPING)]
