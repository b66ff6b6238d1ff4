"""Sampling as a step of a Ray Data pipeline: units in, series out, on as many actors as there are devices.

import ray
from lightning_freqdiff.ray_data import UnitSampler, units

settings = {"num_samples": 100_000, "num_steps": 200, "batch_size": 1024}
rows = units(**settings).map_batches(
    UnitSampler, batch_size=1, concurrency=8, num_gpus=1,
    fn_constructor_kwargs={"ckpt_path": "best.ckpt", **settings},
)
rows.write_parquet("s3://bucket/drawn")

Without GPUs, let ``concurrency`` be less than there are cores: what reads and writes needs one as well.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.running import find_device
from lightning_freqdiff.sampling import Sampling

Rows = dict[str, np.ndarray]


def units(num_samples: int = Sampling.num_samples, batch_size: int = Sampling.batch_size, **_: Any) -> Any:
    """Return a Ray data set with a row for each unit of a run, of which it is the number, ``unit``.

    Args:
        num_samples: Samples in all.
        batch_size: Samples in a unit.

    Raises:
        ValueError: Where Ray is not installed.
    """
    try:
        import ray.data  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ValueError('Ray Data is not here: pip install "lightning-freqdiff[ray]"') from error
    return ray.data.range(-(-num_samples // batch_size)).rename_columns({"id": "unit"})


class UnitSampler:
    """An actor for ``map_batches(batch_size=1)`` that draws the samples of units.

    Samples are those of ``predict`` with the same settings, whichever actor draws them and however often.

    Args:
        ckpt_path: Checkpoint to draw from, which every node can read.
        device: Where; ``auto`` takes the GPU that Ray gave the actor, if any.
        **sampling: Settings of ``Sampling``, the same as of :func:`units`.
    """

    def __init__(self, ckpt_path: str, device: str = "auto", **sampling: Any) -> None:
        self.module = ScoreModule.load_from_checkpoint(ckpt_path).to(find_device(device))
        self.sampling = Sampling(**sampling)

    def __call__(self, batch: Rows) -> Rows:
        """Draw units.

        Args:
            batch: Their numbers, as ``unit``.

        Returns:
            A row for each series: its number as ``sample``, and its ``series`` as ``(N, M)``, float32.
        """
        size, total = self.sampling.batch_size, self.sampling.num_samples
        ranges = [(int(unit) * size, min(total, (int(unit) + 1) * size)) for unit in batch["unit"]]
        with torch.no_grad():
            drawn = [self.module.draw(unit, self.sampling).cpu().numpy() for unit in self.sampling.units(ranges)]
        numbers = [np.arange(start, stop) for start, stop in ranges]
        return {"sample": np.concatenate(numbers), "series": np.concatenate(drawn)}
