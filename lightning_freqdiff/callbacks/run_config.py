"""The configuration of a training: a file beside its checkpoints, and settings for loggers that ask for them."""

from __future__ import annotations

import re
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback

TOLD = ("seed_everything", "data", "ema", "checkpoint", "early_stopping")
"""Settings that loggers are told, beside those of the model, which they know."""
OF_TRAINER = (
    *("max_steps", "max_epochs", "max_time", "val_check_interval", "check_val_every_n_epoch", "precision"),
    *("accumulate_grad_batches", "gradient_clip_val", "devices", "num_nodes", "strategy"),
)
"""Settings of the trainer among them."""


class RunConfig(SaveConfigCallback):
    """Write ``config.yaml``, and tell loggers that can ``describe`` a run: data, budget, seed."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the file; say its name where that fails."""
        try:
            super().setup(trainer, pl_module, stage)
        except OSError as error:
            raise OSError(
                f"cannot write {self.config_filename} to the folder of the logger ({error.strerror or error}): free "
                "space, or set `trainer.logger` or `trainer.default_root_dir` to another folder"
            ) from error

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Tell the loggers, without a path."""
        config = self.config.as_dict()
        told: dict[str, Any] = {key: config[key] for key in TOLD if config.get(key) is not None}
        told["trainer"] = {key: config["trainer"][key] for key in OF_TRAINER}
        for logger in trainer.loggers:
            describe = getattr(logger, "describe", None)
            if callable(describe):
                describe(without_paths(told))


def without_paths(value: Any) -> Any:
    """Leave of every path its last part.

    Examples:
        >>> without_paths({"path": "/home/ada/beats.csv", "list": ["~/a", 1, "b.c"]})
        {'path': 'beats.csv', 'list': ['a', 1, 'b.c']}
    """
    if isinstance(value, dict):
        return {key: without_paths(one) for key, one in value.items()}
    if isinstance(value, list):
        return [without_paths(one) for one in value]
    return re.split(r"[/\\]", value.rstrip("/\\"))[-1] if isinstance(value, str) else value
