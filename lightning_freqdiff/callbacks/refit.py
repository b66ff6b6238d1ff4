"""At the end of a training, put right what the best model gets wrong of leading directions and of limits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import Tensor

from lightning_freqdiff.checkpoint import read_checkpoint
from lightning_freqdiff.condition import Condition
from lightning_freqdiff.data import SeriesData
from lightning_freqdiff.diffusion.correction import LEVELS
from lightning_freqdiff.diffusion.refit import MOST_KEPT, refit
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.sampling import InTurn, Sampling
from lightning_freqdiff.sampling.solvers import DPMSolverPP

STEP = 3
"""Work of a training step, in network calls."""


class Refit(Callback):
    """Measure on training series what the best checkpoint gets wrong, and write its correction into it.

    Then some samples are drawn, for :class:`Limits` that series meet and that the model comes near to alone.

    Args:
        share: Of the training's work, how much may be spent on each of both.
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

    def state_dict(self) -> dict[str, Any]:
        """Return how many series were trained on, for a training that goes on."""
        return {"seen": self._seen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self._seen = state_dict["seen"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the correction of the model that training goes on from: it will be another one."""
        if isinstance(pl_module, ScoreModule):
            pl_module.score.codec.limits.forget()
            if pl_module.score.correction is not None:
                pl_module.score.correction.forget()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Count the series that were trained on."""
        self._seen += len(batch.series) * trainer.world_size  # pyright: ignore[reportAttributeAccessIssue]

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Correct the best checkpoint, where it lies; the model in memory gets the same correction."""
        callback, data = trainer.checkpoint_callback, getattr(trainer, "datamodule", None)
        calls = int(self.share * STEP * self._seen)
        if not isinstance(callback, ModelCheckpoint) or not callback.best_model_path:
            return
        if not isinstance(data, SeriesData) or not isinstance(pl_module, ScoreModule) or trainer.interrupted:
            return
        found: dict[str, Tensor] = {}
        if trainer.is_global_zero:
            path = callback.best_model_path
            best = ScoreModule.load_from_checkpoint(path, map_location=pl_module.device)
            trainer.precision_plugin.convert_module(best)
            with trainer.precision_plugin.forward_context():  # as it was trained, and as fast
                done = self._refit(best, data, calls)
            if done:
                content = read_checkpoint(path)
                found = {name: value.cpu() for name, value in best.state_dict().items() if name.startswith(FOUND)}
                content["state_dict"].update(found)
                trainer.strategy.checkpoint_io.save_checkpoint(content, path)
        pl_module.load_state_dict(trainer.strategy.broadcast(found), strict=False)

    def _refit(self, best: ScoreModule, data: SeriesData, calls: int) -> bool:
        """Do what so many network calls allow; return whether anything was found."""
        series, known = data.reference_series(), data.reference_known()
        count, generator = min(self.most, calls // LEVELS), torch.Generator().manual_seed(0)
        done = refit(best.score, series, count, generator, known, best.condition_dropout, *_held_out(data))
        drawn = min(DRAWN, calls // DRAFT.num_calls)
        if drawn < FEWEST:
            return done
        seen = data.reference_seen()
        series = series if seen is None else torch.where(seen > 0, series, torch.nan)
        return best.score.codec.limits.fit(series, lambda: _drawn(best, drawn, known, generator)) or done


FOUND = ("score.correction.", "score.codec.limits.")
"""How the names of what is found begin."""

DRAFT = Sampling(num_steps=20, solver=DPMSolverPP("ode"), grid="edm", limits=False)
"""How samples are drawn for limits: soon, and nearly as they come out of a thousand steps."""

DRAWN, FEWEST = 512, 64
"""Of them at most, and at least: a quantile of fewer says nothing."""


def _held_out(data: SeriesData) -> tuple[Tensor, Condition, Tensor | None]:
    """Return series that were not trained on, what is known of them, and where they were observed."""
    series, known = data.reference_series(MOST_KEPT, "val"), data.reference_known(MOST_KEPT, "val")
    return series, known, data.reference_seen(MOST_KEPT, "val")


def _drawn(model: ScoreModule, count: int, known: Condition, generator: torch.Generator) -> Tensor:
    """Draw samples that are told what training series were, ``(count, N, M)``."""
    sampling = replace(DRAFT, num_samples=count)
    if known:
        rows = torch.randint(known.count or 1, (sampling.num_samples,), generator=generator)
        sampling = replace(sampling, condition=InTurn(known.take(rows)))
    return torch.cat([model.draw(unit, sampling).cpu() for unit in sampling.units()])
