"""The last word on a run: what `predict` and `test` leave for people, as pictures, a table and one HTML page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor

from lightning_freqdiff.callbacks.boards import LEFT, boards
from lightning_freqdiff.callbacks.monitor import draw_share, gather, share_numbers
from lightning_freqdiff.callbacks.quantiles import leave_quantiles
from lightning_freqdiff.callbacks.sample_writer import SampleWriter
from lightning_freqdiff.callbacks.verdict import verdict
from lightning_freqdiff.data import SeriesData
from lightning_freqdiff.domains import spectral_density
from lightning_freqdiff.evaluation.evaluator import DRAWN, Evaluator
from lightning_freqdiff.evaluation.findings import EvaluateSettings, Findings
from lightning_freqdiff.evaluation.report import add_memorization, add_scores
from lightning_freqdiff.evaluation.result import Evaluation, cache_evaluation
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.outputs import Kind, claim
from lightning_freqdiff.reporting import plots
from lightning_freqdiff.reporting.page import Page, size_of
from lightning_freqdiff.sampling import Given

KIND = Kind("an earlier test", (*LEFT, "report.html"))
"""What `test` leaves."""


class RunReport(Callback):
    """Measure and draw the samples of a run, and leave ``report.html`` beside them.

    After ``predict`` it reads the samples from disk; with a data set given it measures them against its training
    part. ``test`` draws samples of its own, each rank its share.

    Args:
        folder: Where ``test`` leaves its report; ``predict`` uses the folder of the samples.
        num_directions: Directions of the sliced Wasserstein distance.
        metrics: Metrics to take as well, by the names of `evaluate`, each with its floor and its ceiling; and whether
            samples are copies of training series.
    """

    def __init__(self, folder: str = "report", num_directions: int = 1000, metrics: Sequence[str] = ()) -> None:
        self.folder, self.num_directions = Path(folder), num_directions
        self.named = EvaluateSettings(tuple(metrics), directions=num_directions) if metrics else None
        self.result: Evaluation | None = None
        self.found: Findings | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Ask the writer to be called when all samples are on disk; `test` claims its folder before any work."""
        if stage == "test" and trainer.is_global_zero and not trainer.fast_dev_run:  # pyright: ignore
            claim(self.folder, "sampling.output", KIND)
        for callback in trainer.callbacks:  # pyright: ignore[reportAttributeAccessIssue]
            if stage == "predict" and isinstance(callback, SampleWriter):
                callback.finishers.append(self._finish_predict)

    def _finish_predict(
        self, trainer: Trainer, module: ScoreModule, samples: np.ndarray, folder: Path, facts: dict[str, Any]
    ) -> None:
        data, asked = getattr(trainer, "reference_data", None), module.sampling.condition
        if isinstance(asked, Given):
            result = Evaluation(figures=leave_quantiles(module, asked, samples, folder))
        elif isinstance(data, SeriesData):
            evaluator = Evaluator(data, num_directions=self.num_directions, alone=True)
            series = torch.from_numpy(np.array(samples))
            result = evaluator.evaluate(evaluator.measure(series), samples, module.channels)
            self._find(evaluator, series, module)
        else:
            result = Evaluation(figures=_figures_alone(module, samples))
        self._leave(trainer, module, result, folder, facts, count=len(samples))

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw samples and measure them against the training part of the data set."""
        data = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        assert isinstance(pl_module, ScoreModule)
        if not isinstance(data, SeriesData) or trainer.fast_dev_run:  # pyright: ignore
            return
        sampling = pl_module.as_trained(pl_module.sampling)
        share = min(sampling.batch_size, -(-sampling.num_samples // trainer.world_size))
        sampling = replace(sampling, batch_size=share)
        series, reports = draw_share(trainer, pl_module, sampling)
        evaluator = Evaluator(data, num_directions=self.num_directions)
        numbers = share_numbers(trainer, sampling)
        measured = evaluator.measure(series, numbers, sampling.num_samples)
        everything = gather(series, numbers) if self.named else series
        pl_module.log("test_count", float(measured.samples.count), rank_zero_only=True)
        for name, values in measured.samples.values.items():
            pl_module.log(f"test_{name}", values["mean"], rank_zero_only=True)
        if trainer.is_global_zero:
            result = evaluator.evaluate(measured, series.cpu().numpy(), pl_module.channels)
            self._find(evaluator, everything, pl_module)
            for name, score in self.found.scores.items() if self.found else ():
                if score.value is not None:
                    pl_module.log(f"test_{name}", score.value, rank_zero_only=True)
            metrics = trainer.callback_metrics
            gain = 1 - float(metrics["test_loss"] / metrics["test_loss_linear"])
            facts = {"reports": reports, "checkpoint": pl_module.checkpoint_hash, "gain": gain}
            self._leave(trainer, pl_module, result, self.folder, facts, sampling.num_samples)

    def _find(self, evaluator: Evaluator, series: Tensor, module: ScoreModule) -> None:
        """Take the metrics that were asked for by name."""
        self.found = evaluator.findings(series, self.named, module.channels) if self.named else None

    def _leave(
        self,
        trainer: Trainer,
        module: ScoreModule,
        result: Evaluation,
        folder: Path,
        facts: dict[str, Any],
        count: int,
    ) -> None:
        """Show the result on every board and write the page."""
        self.result = result
        if self.found is not None:
            result.add(self.found.scores)
        cache = cache_evaluation(facts.get("reports", []))
        result.scalars |= cache.scalars
        result.figures |= cache.figures
        if facts.get("seconds"):
            result.scalars["samples_per_second"] = facts["samples_drawn"] / facts["seconds"]
        row = {"num_samples": count, **{f"samples/{k}": v for k, v in result.scalars.items()}}
        for board in boards(trainer, folder):
            board.show(result, trainer.global_step, "samples/")
            board.summarize(row)
        _page(module, result, self.found, facts, count).write(folder / "report.html")
        rank_zero_info(f"report: {folder / 'report.html'}")


def _figures_alone(module: ScoreModule, samples: np.ndarray) -> dict[str, Any]:
    """Draw what the checkpoint alone allows: samples, and mean spectra beside the training statistics."""
    generated = spectral_density(torch.from_numpy(np.array(samples[:DRAWN]))).mean(0).numpy()
    known = module.score.codec.density()
    training = None if known is None else known.numpy()
    return {
        "samples": plots.sample_gallery(samples[:6], None, module.channels),
        "spectra": plots.mean_spectra(generated, training, module.channels),
    }


def _page(module: ScoreModule, result: Evaluation, found: Findings | None, facts: dict[str, Any], count: int) -> Page:
    """Lay out the page."""
    layout = module.layout
    page = Page(f"{count} series of {size_of(layout.length, layout.channels)}")
    warning = verdict(facts.get("gain", module.data_facts.get("val_gain", 1.0)))
    if warning:
        page.text(f"The model is {warning}.")
    if result.rows:
        page.heading("Distance to the training set")
        page.text(
            "Lower is closer. In brackets: the number of series a figure was taken at; figures of different numbers "
            "do not compare. The floor is what real series, not trained on, score, as many as there are samples. "
            "Where there are fewer, hold it against the column of as many samples. A distance below it means nothing."
        )
        page.table(result.columns, result.rows)
    if found is not None:
        page.heading("Metrics between floor and ceiling")
        add_scores(page, found)
        add_memorization(page, found)
    page.heading("Samples")
    what = "Generated series, and training series below them where they are known"
    if isinstance(module.sampling.condition, Given):
        what = "What is known, and the median with the bands that half and four fifths of the samples lie in"
    page.figure(result.figures["samples"], what)
    if "spectra" in result.figures:
        page.heading("Spectra")
        page.figure(result.figures["spectra"], "Spectral density of generated and training series per channel")
    for report in facts.get("reports", []):
        if report.get("curves"):
            page.heading(f"Cache: {report['cache']}")
            shown = {k: v for k, v in report.items() if isinstance(v, (int, float))}
            page.table(list(shown), [list(shown.values())])
            page.figure(result.figures["cache"], "Hit rate, event intensity and probe error along the trajectory")
    page.heading("Settings")
    kept = {k: v for k, v in facts.items() if k not in ("status", "reports", "units")}
    page.settings(json.loads(json.dumps(kept, default=str)))
    return page
