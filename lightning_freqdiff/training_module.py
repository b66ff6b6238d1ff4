"""The training of a score model: losses, what is logged of them, the optimizer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor

from lightning_freqdiff.condition import Condition
from lightning_freqdiff.data import Batch
from lightning_freqdiff.diffusion.losses import Weighting, linear_loss, score_matching_loss, stratified_times
from lightning_freqdiff.masks import draw_masks
from lightning_freqdiff.sampling_module import SamplingModule
from lightning_freqdiff.schedule import warmup_cosine


class TrainingModule(SamplingModule):
    """Learns a score from batches of series by denoising score matching.

    Attributes:
        weighting: Weighting of the loss.
        condition_dropout: Share of the training series that are not told their label or covariates.
        observe: Share of the training series of which values at some places are told.
        learning_rate: Peak learning rate.
        weight_decay: Weight decay.
        warmup: Share of the training over which the learning rate rises.
        compile_network: Whether the layers are compiled.
        training_times: Quantiles of the times that are trained on, see :func:`stratified_times`.
        validation_times: The same of those that are validated on.
    """

    weighting: Weighting
    condition_dropout: float
    observe: float
    learning_rate: float
    weight_decay: float
    warmup: float
    compile_network: bool
    training_times: Tensor
    validation_times: Tensor

    def on_fit_start(self) -> None:
        """Compile the layers for training; sampling compiles in its own way, see ``networks/compiled.py``."""
        if self.compile_network:
            for layer in cast("list[torch.nn.Module]", list(self.score.network.layers)):
                layer.compile()

    def on_train_start(self) -> None:
        """Let every rank draw times and noise of its own: all were seeded alike, so that their weights agree."""
        torch.manual_seed(torch.initial_seed() + self.global_rank)

    def _told(self, batch: Batch, generator: torch.Generator | None = None) -> Condition:
        """Return what the network is told of a batch: besides what the data set tells, values at random places."""
        learnt = self.score.codec.logarithm
        if not self.observe or batch.condition.mask is not None:
            return batch.condition.measured(learnt)
        mask = draw_masks(batch.series.shape, self.observe, generator).to(batch.series)
        mask = mask if batch.seen is None else mask * batch.seen
        return replace(batch.condition, observed=learnt(batch.series), mask=mask)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the denoising score matching loss of series ``(B, N, M)`` and what is known of them."""
        z0 = self.score.codec.encode(batch.series)
        t = stratified_times(self.training_times, len(z0))
        noise = torch.randn_like(z0)
        condition = self._told(batch).thinned(self.condition_dropout)
        loss = score_matching_loss(self.score, z0, noise, t, self.weighting, condition, batch.seen)
        self.log("train_loss", loss, prog_bar=True, batch_size=len(z0))
        return loss

    def _log_evaluation(self, stage: str, batch: Batch, batch_idx: int) -> None:
        """Log our loss and the linear model's under noise fixed by the batch's place, so that epochs compare."""
        z0 = self.score.codec.encode(batch.series)
        generator = torch.Generator().manual_seed(batch_idx * self.trainer.world_size + self.global_rank)
        t = stratified_times(self.validation_times, len(z0), generator)
        noise = torch.randn(z0.shape, generator=generator, dtype=torch.float32).to(z0)
        condition = self._told(batch, generator)
        loss = score_matching_loss(self.score, z0, noise, t, self.weighting, condition, batch.seen)
        self.log(f"{stage}_loss", loss, prog_bar=stage == "val", sync_dist=True, batch_size=len(z0))
        linear = linear_loss(self.score, z0, noise, t, self.weighting, condition, batch.seen)
        self.log(f"{stage}_loss_linear", linear, sync_dist=True, batch_size=len(z0))

    def _log_gain(self, stage: str) -> None:
        """Log the share of the linear model's error that the network removes."""
        loss, linear = (self.trainer.callback_metrics.get(f"{stage}_loss{of}") for of in ("", "_linear"))
        if loss is not None and linear is not None:
            self.log(f"{stage}_gain", 1 - loss / linear, sync_dist=True)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the validation loss."""
        self._log_evaluation("val", batch, batch_idx)

    def on_validation_epoch_end(self) -> None:
        """Log what it is worth: the same on every data set, 0 for a Gaussian and 1 at best."""
        self._log_gain("val")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the test loss."""
        self._log_evaluation("test", batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        """Log what it is worth."""
        self._log_gain("test")

    def configure_optimizers(self) -> Any:
        """Make AdamW with linear warm-up and cosine decay over the whole run, per step."""
        # Lightning clips no gradients of a fused optimizer under mixed precision.
        clipped = "mixed" in str(self.trainer.precision) and self.trainer.gradient_clip_val
        fused = self.device.type in ("cpu", "cuda") and not clipped
        optimizer = torch.optim.AdamW(
            self.parameters(), self.learning_rate, betas=(0.9, 0.99), weight_decay=self.weight_decay, fused=fused
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warmup_cosine(self.trainer, self.warmup))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
