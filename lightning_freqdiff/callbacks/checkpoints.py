"""Checkpoints that are there whole or not at all, and in nobody's way."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from lightning_freqdiff.files import replacing


class WholeCheckpointIO(TorchCheckpointIO):
    """Write a checkpoint beside its place, and move it there when all of it is on disk."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint in one move; where that fails, the one of before stays."""
        if "://" in str(path):  # no file of this machine
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        # First into memory: what a disk refuses in the middle, torch.save tells of without its reason.
        whole = io.BytesIO()
        torch.save(checkpoint, whole)
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as file:
                file.write(whole.getbuffer())
        except OSError as error:
            raise OSError(
                f"cannot write the checkpoint {path} ({error.strerror}), and one of that name stays as it was: free "
                "space, or set `checkpoint.dirpath` to another disk"
            ) from error


class SafeCheckpoints(Callback):
    """Write checkpoints whole, and refuse to train over those of another run."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take the place of Lightning's writer; another that was asked for stays."""
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = WholeCheckpointIO()
        for callback in trainer.checkpoint_callbacks if trainer.fast_dev_run else ():  # pyright: ignore
            if isinstance(callback, ModelCheckpoint):
                callback.save_last = False  # a trial saves nothing, but Lightning would save this one at its end

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a folder with checkpoints, but for that of the run that goes on.

        Raises:
            ValueError: Before any training.
        """
        begun = None if trainer.ckpt_path is None else Path(trainer.ckpt_path).resolve().parent
        looking = trainer.is_global_zero and not trainer.fast_dev_run  # pyright: ignore[reportAttributeAccessIssue]
        for callback in trainer.checkpoint_callbacks if looking else ():
            folder = callback.dirpath if isinstance(callback, ModelCheckpoint) else None
            there = sorted(path.name for path in Path(folder or "").glob("*.ckpt")) if folder else []
            if there and begun != Path(str(folder)).resolve():
                raise ValueError(
                    f"expected a folder without checkpoints, but {folder} holds {', '.join(there[:3])}: set "
                    "`checkpoint.dirpath` to another folder, or `ckpt_path` to one of them to train on"
                )
