"""Write the samples of a predict run to disk as they come, and take up a run that was interrupted."""

from __future__ import annotations

import platform
import time
from dataclasses import asdict
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from lightning_freqdiff import __version__, plots
from lightning_freqdiff.callbacks.base import SamplingCallback
from lightning_freqdiff.callbacks.run_folder import RunFolder, missing_ranges
from lightning_freqdiff.callbacks.table import Format, check_format, convert
from lightning_freqdiff.checkpoint import as_settings
from lightning_freqdiff.data import SeriesData
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.spectral import spectral_density

SPECTRUM_SERIES = 4096
"""Samples that the spectrum's picture is drawn from, at most."""


class SampleWriter(Callback):
    """Write ``samples.npy`` and ``manifest.json``, each unit as soon as it is done, and pictures at the end.

    Args:
        output: Folder of the run. Empty or new, or that of the same run cut short, which is then finished.
        format: What is left at the end: npy, or npz, parquet or csv instead of it.
        pictures: Draw samples.png and spectra.png at the end.
    """

    def __init__(self, output: str = "samples", format: Format = "npy", pictures: bool = True) -> None:
        check_format(format)
        self.folder, self.pictures = RunFolder(output), pictures
        self.format: Format = format
        self._since = self._started = 0.0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Open the run's folder and leave the module only the work that is not done yet."""
        if stage != "predict":
            return
        assert isinstance(pl_module, ScoreModule)
        identity = self._identity(trainer, pl_module)
        shape = pl_module.representation.length, pl_module.representation.channels
        total = pl_module.sampling.num_samples
        if trainer.is_global_zero:
            self.folder.open(identity, (total, *shape))
        trainer.strategy.barrier("run folder")
        todo = missing_ranges(self.folder.done(), total)
        pl_module.work = pl_module.sampling.units(todo)
        rest = sum(stop - start for start, stop in todo)
        if rest < total:
            rank_zero_info(f"{self.folder.path}: {total - rest} of {total} samples are there, {rest} to do")
        self._started = time.perf_counter()

    def _identity(self, trainer: Trainer, module: ScoreModule) -> dict[str, Any]:
        """Collect everything that the samples depend on, and nothing else (not batch size, not devices)."""
        sampling = asdict(module.sampling)
        del sampling["batch_size"]
        callbacks = [c for c in trainer.callbacks if isinstance(c, SamplingCallback)]  # pyright: ignore
        return {
            "checkpoint": module.checkpoint_hash,
            "sampling": {**sampling, "solver": as_settings(module.sampling.solver)},
            "model": dict(module.hparams),
            "precision": str(trainer.precision),
            "device": trainer.strategy.root_device.type,
            "caches": [c.identity() for c in callbacks],
        }

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
        series = outputs.float().cpu().numpy()
        seconds = time.perf_counter() - self._since
        if not np.isfinite(series).all():
            raise ValueError(
                f"samples {batch.first} to {batch.first + batch.count - 1} are not finite and were not written: try "
                "more --sampling.num_steps, another --sampling.solver or --trainer.precision 32-true"
            )
        self.folder.write(trainer.global_rank, batch.first, series, seconds)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the manifest, draw the pictures, convert the samples."""
        trainer.strategy.barrier("samples")
        if not trainer.is_global_zero or self.folder.read_manifest()["status"] == "complete":
            return
        assert isinstance(pl_module, ScoreModule)
        if missing_ranges(self.folder.done(), pl_module.sampling.num_samples):
            return  # --trainer.limit_predict_batches: the rest may be done later
        names = pl_module.channels
        if self.pictures:
            self._draw(pl_module, getattr(trainer, "reference_data", None), names)
        file = self.folder.samples
        if self.format != "npy":
            file = convert(self.folder.samples, self.format, names)
        self.folder.close({**self._facts(trainer), "file": file.name, "channels": list(names)})
        if self.format != "npy":
            self.folder.samples.unlink()
        rank_zero_info(f"samples: {file}")

    def _facts(self, trainer: Trainer) -> dict[str, Any]:
        """Collect what is worth knowing about the run but does not change the samples."""
        callbacks = [c for c in trainer.callbacks if isinstance(c, SamplingCallback)]  # pyright: ignore
        return {
            "versions": {
                "lightning_freqdiff": __version__,
                "torch": torch.__version__,
                "lightning": lightning.__version__,
                "python": platform.python_version(),
            },
            "devices": trainer.world_size,
            "threads": torch.get_num_threads(),
            "seconds": round(time.perf_counter() - self._started, 3),
            "reports": [c.report() for c in callbacks],
        }

    def _draw(self, module: ScoreModule, data: Any, names: tuple[str, ...]) -> None:
        """Draw samples and spectra, beside the training set as far as it is known."""
        samples = np.load(self.folder.samples, mmap_mode="r")
        training = data.train_series()[:6].numpy() if isinstance(data, SeriesData) else None
        gallery = plots.sample_gallery(samples[:6], training, names)
        gallery.savefig(self.folder.path / "samples.png", dpi=150)
        generated = spectral_density(torch.from_numpy(samples[:SPECTRUM_SERIES].copy())).mean(0)
        known = module.training_density()
        spectra = plots.mean_spectra(generated.numpy(), None if known is None else known.numpy(), names)
        spectra.savefig(self.folder.path / "spectra.png", dpi=150)
