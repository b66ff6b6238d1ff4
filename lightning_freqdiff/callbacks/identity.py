"""What the samples of a run depend on, written down: two runs of one identity draw the same ones."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

import torch
from lightning.pytorch import Trainer

from lightning_freqdiff.checkpoint import tensors_hash, weights_hash
from lightning_freqdiff.components import as_settings
from lightning_freqdiff.hooks import SamplingCallback
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.sampling import Constrained, Sampling


def identity_of(trainer: Trainer, module: ScoreModule) -> dict[str, Any]:
    """Collect everything that the samples depend on, and nothing else (not batch size, not devices)."""
    callbacks = [c for c in trainer.callbacks if isinstance(c, SamplingCallback)]  # pyright: ignore
    caches = [identity for c in callbacks if (identity := c.identity(module.sampling))]
    device, matmul = trainer.strategy.root_device.type, torch.get_float32_matmul_precision()
    return {
        "weights": weights_hash(module),
        "sampling": sampling_settings(module.sampling),
        "model": dict(module.hparams),
        "precision": str(trainer.precision) + (f", {matmul}" if matmul == "medium" or device != "cpu" else ""),
        "device": device,
        "caches": caches,
        "calibration": tensors_hash(module.score.calibration) if caches or module.sampling.calibrated else None,
    }


def sampling_settings(sampling: Sampling) -> dict[str, Any]:
    """Write down all that the samples depend on: not the size of a batch, and nothing that is not given."""
    values = {f.name: getattr(sampling, f.name) for f in fields(sampling) if f.name != "batch_size"}
    values["limits"] = None if sampling.limits else False
    values |= {k: v.settings() for k, v in values.items() if isinstance(v, Constrained)}
    if sampling.condition is not None:
        values["condition"] = sampling.condition.settings()
    return {k: as_settings(v) if is_dataclass(v) else v for k, v in values.items() if v is not None}
