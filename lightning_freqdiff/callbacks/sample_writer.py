"""Write the samples of a predict run to disk as they come, and take up a run that was interrupted."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
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
from lightning_freqdiff.callbacks.unit_writer import UnitWriter
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.sampling import WorkUnit

Finisher = Callable[[Trainer, ScoreModule, np.ndarray, Path, dict[str, Any]], None]
"""Called on rank zero with the samples ``(n, N, M)``, the run's folder and its facts, once all are on disk."""


class SampleWriter(UnitWriter):
    """Write ``samples.npy`` and ``manifest.json``, each unit as soon as it is done.

    Args:
        output: Folder of the run. Empty or new, or that of the same run cut short, which is then finished.
        format: What is left at the end: npy, npz, parquet or csv; if not given, a table where the model was trained
            on tables, else npy.
    """

    def __init__(self, output: str = "samples", format: Format | None = None) -> None:
        super().__init__()
        check_format(format)
        self.folder = RunFolder(output)
        self.finishers: list[Finisher] = []
        self.wanted: Format | None = format
        self.format: Format = format or "npy"
        self._since = 0.0
        self._todo = 0
        self._measured: Measured | None = None

    def open(self, trainer: Trainer, module: ScoreModule) -> Sequence[WorkUnit]:
        """Open the run's folder; a run that has all its samples is closed at once."""
        if self.wanted is None:
            self.format = module.data_facts.get("format", "npy")
            check_format(self.format)
        identity = identity_of(trainer, module)
        total = module.sampling.num_samples
        if trainer.is_global_zero:
            self.folder.open(identity, (total, module.layout.length, module.layout.channels))
            self._check_result()
        trainer.strategy.barrier("run folder")
        self._measured = Measured(self.folder, trainer, module)
        ranges = missing_ranges(self.folder.done(), total)
        self._todo = sum(stop - start for start, stop in ranges)
        if self._todo < total:
            rank_zero_info(
                f"{self.folder.path}: {total - self._todo} of {total} samples are there, {self._todo} to do"
            )
        if not ranges and trainer.is_global_zero:
            self._take_up_finished(trainer, module)
        return module.sampling.units(ranges)

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

    def put(self, trainer: Trainer, unit: WorkUnit, series: np.ndarray) -> None:
        """Write the unit's samples into their rows."""
        seconds = time.perf_counter() - self._since
        assert self._measured is not None
        self._measured.add(unit.first, unit.count)
        self.folder.write(trainer.global_rank, unit.first, series, seconds, self._measured.start)

    def close(self, trainer: Trainer, module: ScoreModule) -> None:
        """Let the finishers look at the samples, convert them, close the manifest."""
        missing = missing_ranges(self.folder.done(), module.sampling.num_samples)
        if missing:  # `trainer.limit_predict_batches`, for instance
            count = sum(stop - start for start, stop in missing)
            rank_zero_info(f"{self.folder.path}: {count} samples are still missing; the same command draws them")
        elif self.folder.read_manifest()["status"] == "running":
            self._finish(trainer, module)

    def leave(self) -> None:
        """Let other processes into the folder."""
        self.folder.release()

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
            **self._measured.facts(self._todo),
        }
