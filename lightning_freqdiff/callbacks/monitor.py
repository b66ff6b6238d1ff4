"""Watch samples while a model trains: a small sampling after every so many validations, measured and drawn."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torchmetrics.utilities.distributed import gather_all_tensors

from lightning_freqdiff.callbacks.boards import LEFT, Board, boards
from lightning_freqdiff.callbacks.cache import CacheCallback
from lightning_freqdiff.data import SeriesData
from lightning_freqdiff.evaluation.evaluator import Evaluator
from lightning_freqdiff.evaluation.findings import EvaluateSettings
from lightning_freqdiff.evaluation.result import Evaluation, cache_evaluation
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.outputs import Kind, claim
from lightning_freqdiff.sampling import Sampling, WorkUnit
from lightning_freqdiff.sampling.solvers import DPMSolverPP
from lightning_freqdiff.schedule import at_end
from lightning_freqdiff.sharding import ShardedStrategy


def draw_share(trainer: Trainer, module: ScoreModule, sampling: Sampling) -> tuple[Tensor, list[dict[str, Any]]]:
    """Draw this rank's share of the samples, through the caches in use.

    Returns:
        Series ``(n, N, M)`` on the module's device, in data units, and what the caches report over all ranks.
    """
    caches = [c for c in trainer.callbacks if isinstance(c, CacheCallback)]  # pyright: ignore
    units = sampling.units()[trainer.global_rank :: trainer.world_size] or [WorkUnit(sampling.seed, 0, 0)]
    with caches[0].around(module.score, sampling) if caches else nullcontext(module.score) as score:
        series = torch.cat([module.draw(unit, sampling, score) for unit in units])
    if caches:
        caches[0].collect(trainer)
    return series, [c.report() for c in caches[:1]]


def share_numbers(trainer: Trainer, sampling: Sampling) -> Tensor:
    """Return which of all samples :func:`draw_share` draws on this rank, ``(n,)``."""
    units = sampling.units()[trainer.global_rank :: trainer.world_size]
    return torch.tensor([unit.first + i for unit in units for i in range(unit.count)], dtype=torch.long)


def gather(series: Tensor, numbers: Tensor) -> Tensor:
    """Return the samples of all ranks in their order, ``(n, N, M)``, on every rank.

    Args:
        series: Samples of this rank.
        numbers: Which of all samples these are.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return series
    parts, order = (torch.cat(gather_all_tensors(x)) for x in (series.contiguous(), numbers.to(series.device)))
    return parts[order.argsort()]


KIND = Kind("an earlier monitor's", LEFT)
"""What is left where there is no logger."""


class SampleMonitor(Callback):
    """During training, sample with the averaged weights, and show distances, spectra and galleries.

    Results go to every logger of the trainer (W&B with pictures and tables) and to the run folder, which without a
    logger is ``monitor``.

    Args:
        every_n_validations: Validations between samplings; the one at the end of the run is always among them.
        num_samples: Samples each time, over all ranks.
        num_steps: Steps of DPM-Solver++(2M) SDE, uniform in log-SNR.
        num_directions: Directions of the sliced Wasserstein distance.
        seed: Seed of the samples: the same noise each time, so that samplings compare.
        metrics: Metrics to take as well, by the names of `evaluate`, each with its floor and its ceiling; those that
            train networks hold the training up for minutes.
    """

    def __init__(
        self,
        every_n_validations: int = 5,
        num_samples: int = 128,
        num_steps: int = 50,
        num_directions: int = 500,
        seed: int = 0,
        metrics: Sequence[str] = (),
    ) -> None:
        if every_n_validations < 1:
            raise ValueError(
                f"expected every_n_validations >= 1, got {every_n_validations}: "
                "set `trainer.callbacks.every_n_validations`"
            )
        self.every_n_validations, self.num_directions = every_n_validations, num_directions
        self.sampling = Sampling(num_samples, num_steps, DPMSolverPP("sde"), "logsnr", seed)
        self.named = EvaluateSettings(tuple(metrics), directions=num_directions) if metrics else None
        self.history: list[Evaluation] = []
        self._validations = 0
        self._evaluator: Evaluator | None = None
        self._boards: list[Board] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Claim the folder where it is not a logger's, before any work."""
        if isinstance(trainer.strategy, ShardedStrategy):
            raise ValueError(
                "expected no SampleMonitor where weights are shared out, since ranks draw samples each by itself: "
                "leave it out of `trainer.callbacks`"
            )
        if stage == "fit" and not trainer.loggers and trainer.is_global_zero and not trainer.fast_dev_run:  # pyright: ignore
            claim(_folder(trainer), "trainer.default_root_dir", KIND)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Sample after the last validation batch: the averaged weights are surely in place then."""
        batches = trainer.num_val_batches
        count = batches[0] if isinstance(batches, list) else batches
        if trainer.state.fn != "fit" or not trainer.global_step or batch_idx + 1 < count:
            return  # before the first step there is nothing to see
        self._validations += 1
        if self._validations % self.every_n_validations and not at_end(trainer):
            return
        assert isinstance(pl_module, ScoreModule)
        # Sampling must not move the generator that training draws its noise from.
        with torch.random.fork_rng(devices=[]):
            self._evaluate(trainer, pl_module, trainer.datamodule)  # pyright: ignore[reportAttributeAccessIssue]

    def _evaluate(self, trainer: Trainer, module: ScoreModule, data: SeriesData) -> None:
        if self._evaluator is None:
            self._evaluator = Evaluator(data, num_directions=self.num_directions)
            folder = _folder(trainer)  # which ranks have to ask together
            self._boards = boards(trainer, folder) if trainer.is_global_zero else []
        share = min(self.sampling.batch_size, -(-self.sampling.num_samples // trainer.world_size))
        since = time.perf_counter()
        sampling = replace(module.as_trained(self.sampling), batch_size=share)
        series, reports = draw_share(trainer, module, sampling)
        seconds = time.perf_counter() - since
        numbers = share_numbers(trainer, sampling)
        measured = self._evaluator.measure(series, numbers, sampling.num_samples)
        everything = gather(series, numbers) if self.named else series
        if not trainer.is_global_zero:
            return
        result = self._evaluator.evaluate(measured, series.cpu().numpy(), module.channels)
        if self.named:
            result.add(self._evaluator.scores(everything, self.named))
        cache = cache_evaluation(reports)
        result.scalars |= cache.scalars | {"samples_per_second": self.sampling.num_samples / seconds}
        result.figures |= cache.figures
        self.history.append(result)
        for board in self._boards:
            board.show(result, trainer.global_step, "samples/")
            board.summarize(
                {"epoch": trainer.current_epoch, **{f"samples/{k}": v for k, v in result.scalars.items()}}
            )


def _folder(trainer: Trainer) -> Path:
    """Return where figures and tables go: beside what the logger writes, or in a folder of their own without one.

    To be asked on all ranks together.
    """
    folder = trainer.log_dir if trainer.loggers else None
    return Path(trainer.default_root_dir) / "monitor" if folder is None else Path(folder)
