"""Write the samples of a predict run to disk as they come, and take up a run that was interrupted."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from lightning_freqdiff import __version__
from lightning_freqdiff.callbacks.identity import identity_of
from lightning_freqdiff.callbacks.measured import Measured
from lightning_freqdiff.callbacks.run_folder import RunFolder, missing_ranges
from lightning_freqdiff.callbacks.table import Format, check_format, convert
from lightning_freqdiff.hooks import SamplingCallback
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.sampling import Sampling, WorkUnit

Finisher = Callable[[Trainer, ScoreModule, np.ndarray, Path, dict[str, Any]], None]
"""Called on rank zero with the samples ``(n, N, M)``, the run's folder and its facts, once all are on disk."""


class SampleWriter(SamplingCallback):
    """Write ``samples.npy`` and ``manifest.json``, each unit as soon as it is done.

    Args:
        output: Folder of the run. Empty or new, or that of the same run cut short, which is then finished.
        format: What is left at the end: npy, npz, parquet or csv; if not given, a table where the model was trained
            on tables, else npy.
    """

    def __init__(self, output: str = "samples", format: Format | None = None) -> None:
        check_format(format)
        self.folder = RunFolder(output)
        self.finishers: list[Finisher] = []
        self.wanted: Format | None = format
        self.format: Format = format or "npy"
        self._since = 0.0
        self._todo: list[tuple[int, int]] | None = None
        self._measured: Measured | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Open the run's folder and leave the module only the work that is not done yet."""
        if stage != "predict":
            return
        assert isinstance(pl_module, ScoreModule)
        pl_module.check(pl_module.sampling)  # what cannot be had is refused before a folder is made
        if self.wanted is None:
            self.format = pl_module.data_facts.get("format", "npy")
            check_format(self.format)
        identity = identity_of(trainer, pl_module)
        shape = pl_module.layout.length, pl_module.layout.channels
        total = pl_module.sampling.num_samples
        if trainer.is_global_zero:
            self.folder.open(identity, (total, *shape))
            self._check_result()
        trainer.strategy.barrier("run folder")
        self._measured = Measured(self.folder, trainer, pl_module)
        self._todo = todo = missing_ranges(self.folder.done(), total)
        rest = sum(stop - start for start, stop in todo)
        if rest < total:
            rank_zero_info(f"{self.folder.path}: {total - rest} of {total} samples are there, {rest} to do")
        if not todo and trainer.is_global_zero:
            self._take_up_finished(trainer, pl_module)

    def _take_up_finished(self, trainer: Trainer, pl_module: ScoreModule) -> None:
        """Do what is left of a run that has all its samples: with no unit to do, the predict loop ends at once."""
        manifest = self.folder.read_manifest()
        if manifest["status"] == "running":  # killed after the last unit
            self._finish(trainer, pl_module)
        elif manifest["file"] != f"samples.{self.format}":
            rank_zero_info(f"samples: {convert(self.folder.samples, self.format, pl_module.channels)}")

    def _check_result(self) -> None:
        """Refuse a finished run whose samples were moved away, or cannot be had in the format asked for."""
        manifest = self.folder.read_manifest()
        wanted = {self.folder.path / manifest.get("file", "samples.npy"), self.folder.samples}
        if manifest["status"] == "running" or manifest["file"] == f"samples.{self.format}":
            wanted = {self.folder.path / manifest.get("file", "samples.npy")}
        missing = sorted(path.name for path in wanted if not path.exists())
        if missing:
            raise ValueError(
                f"the run in {self.folder.path} is finished, but its {missing[0]} is not there: set "
                "`sampling.output` to another folder, or `sampling.format` to the one it has"
            )

    def on_predict_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Start the unit's clock."""
        self._since = time.perf_counter()

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the unit's samples into their rows."""
        if batch.count == 0:
            return
        series = outputs.float().cpu().numpy()
        seconds = time.perf_counter() - self._since
        check_finite(series, batch.first)
        assert self._measured is not None
        self._measured.add(batch.first, batch.count)
        self.folder.write(trainer.global_rank, batch.first, series, seconds, self._measured.start)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the finishers look at the samples, convert them, close the manifest."""
        trainer.strategy.barrier("samples")
        if not trainer.is_global_zero:
            return
        assert isinstance(pl_module, ScoreModule)
        missing = missing_ranges(self.folder.done(), pl_module.sampling.num_samples)
        manifest = self.folder.read_manifest()
        if missing:  # `trainer.limit_predict_batches`, for instance
            count = sum(stop - start for start, stop in missing)
            rank_zero_info(f"{self.folder.path}: {count} samples are still missing; the same command draws them")
        elif manifest["status"] == "running":
            self._finish(trainer, pl_module)

    def _finish(self, trainer: Trainer, pl_module: ScoreModule) -> None:
        """Close a run whose samples are all on disk."""
        names, file = pl_module.channels, self.folder.samples
        facts = {**self._facts(trainer), "channels": list(names)}
        about = {**self.folder.read_manifest(), **facts}
        for finish in self.finishers:
            finish(trainer, pl_module, np.load(file, mmap_mode="r"), self.folder.path, about)
        if self.format != "npy":
            file = convert(self.folder.samples, self.format, names)
        self.folder.close({**facts, "file": file.name})
        if self.format != "npy":
            self.folder.samples.unlink()
        rank_zero_info(f"samples: {file}")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave the folder to the next run."""
        self._todo = None
        self.folder.release()

    def remaining(self, sampling: Sampling) -> list[WorkUnit] | None:
        """Return what is not on disk yet."""
        return None if self._todo is None else sampling.units(self._todo)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Do so after an error, too, when teardown is not called."""
        self.teardown(trainer, pl_module, "predict")

    def _facts(self, trainer: Trainer) -> dict[str, Any]:
        """Collect what is worth knowing about the run but does not change the samples."""
        assert self._measured is not None
        return {
            "versions": {
                "lightning_freqdiff": __version__,
                "torch": torch.__version__,
                "lightning": lightning.__version__,
                "python": platform.python_version(),
            },
            "checkpoint": getattr(trainer.lightning_module, "checkpoint_hash", None),
            "devices": trainer.world_size,
            "threads": torch.get_num_threads(),
            **self._measured.facts(sum(stop - start for start, stop in self._todo or ())),
        }


def check_finite(series: np.ndarray, first: int) -> None:
    """Refuse samples, from number ``first`` on, that are no numbers."""
    if not np.isfinite(series).all():
        raise ValueError(
            f"samples {first} to {first + len(series) - 1} are not finite and were not kept: try more "
            "`sampling.num_steps`, another `sampling.solver` or `trainer.precision` 32-true"
        )
