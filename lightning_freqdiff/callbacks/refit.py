"""At the end of a training, put right what the best model gets wrong of the leading directions."""

from __future__ import annotations

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from lightning_freqdiff.checkpoint import read_checkpoint
from lightning_freqdiff.data import SeriesData
from lightning_freqdiff.diffusion.correction import LEVELS
from lightning_freqdiff.diffusion.refit import refit
from lightning_freqdiff.module import ScoreModule

STEP = 3
"""Work of a training step, in network calls."""


class Refit(Callback):
    """Measure on training series what the best checkpoint gets wrong, and write its correction into it.

    Args:
        share: Of the training's work, how much may be spent on it.
        most: Series that are drawn for each noise level, at most.
    """

    def __init__(self, share: float = 0.1, most: int = 8192) -> None:
        if not 0 <= share <= 1 or most < 0:
            raise ValueError(
                f"expected share in [0, 1] and most >= 0, got {share} and {most}: set `trainer.callbacks.share`, "
                "`trainer.callbacks.most`"
            )
        self.share, self.most = share, most
        self._seen = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the correction of the model that training goes on from: it will be another one."""
        correction = pl_module.score.correction if isinstance(pl_module, ScoreModule) else None
        if correction is not None:
            correction.forget()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Count the series that were trained on."""
        self._seen += len(batch.series) * trainer.world_size  # pyright: ignore[reportAttributeAccessIssue]

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Correct the best checkpoint, where it lies; the model in memory gets the same correction."""
        callback, data = trainer.checkpoint_callback, getattr(trainer, "datamodule", None)
        count = min(self.most, int(self.share * STEP * self._seen / LEVELS))
        if not isinstance(callback, ModelCheckpoint) or not callback.best_model_path:
            return
        if not isinstance(data, SeriesData) or not isinstance(pl_module, ScoreModule) or trainer.interrupted:
            return
        if trainer.is_global_zero:
            path = callback.best_model_path
            best = ScoreModule.load_from_checkpoint(path, map_location=pl_module.device)
            with trainer.precision_plugin.forward_context():  # as it was trained, and as fast
                given = data.reference_series(), count, torch.Generator().manual_seed(0)
                done = refit(best.score, *given, data.reference_known(), best.condition_dropout)
            if done:
                content = read_checkpoint(path)
                found = {name: value.cpu() for name, value in best.state_dict().items() if name in CORRECTED}
                content["state_dict"].update(found)
                trainer.strategy.checkpoint_io.save_checkpoint(content, path)
                pl_module.load_state_dict(found, strict=False)
        trainer.strategy.barrier()


CORRECTED = ("score.correction.slope", "score.correction.offset", "score.correction.trust")
"""Statistics that a correction consists of."""
