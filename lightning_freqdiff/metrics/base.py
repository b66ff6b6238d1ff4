"""The state that all metrics between generated and reference series share."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from lightning_freqdiff.metrics.samples import check_samples


class TwoSampleMetric(Metric):
    """Collect generated and reference series, batch by batch and over all ranks.

    A subclass computes its value from :meth:`samples`. Series are kept flat, so that a rank which saw none
    can still be gathered with the others; ``shape`` holds their ``(N, M)``.

    Args:
        kwargs: Options of ``torchmetrics.Metric``, such as ``compute_on_cpu`` or ``process_group``.
    """

    full_state_update = False
    is_differentiable = False

    generated: list[Tensor]
    reference: list[Tensor]
    shape: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("generated", default=[], dist_reduce_fx="cat")
        self.add_state("reference", default=[], dist_reduce_fx="cat")
        self.add_state("shape", default=torch.zeros(2, dtype=torch.long), dist_reduce_fx="max")

    def update(self, generated: Tensor | None = None, reference: Tensor | None = None) -> None:
        """Add series; the two need not come together, nor in equal numbers.

        Args:
            generated: Generated series, ``(n, N, M)``, in data units.
            reference: Series to compare with, ``(m, N, M)``, in data units.
        """
        if generated is None and reference is None:
            raise ValueError("expected series, got none: pass `generated`, `reference` or both")
        for name, series in (("generated", generated), ("reference", reference)):
            if series is not None:
                self._add(name, series)

    def _add(self, name: str, series: Tensor) -> None:
        shape = torch.tensor(check_samples(series, name).shape[1:], device=self.shape.device)
        if self.shape.any() and not torch.equal(self.shape, shape):
            raise ValueError(
                f"expected series of (N, M) = {tuple(self.shape.tolist())} as before, got "
                f"{tuple(shape.tolist())}: cut or resample `{name}`, or call reset()"
            )
        self.shape = shape
        # A copy, as the caller may fill the same buffer again.
        getattr(self, name).append(series.detach().to(torch.float32, copy=True).flatten())

    def samples(self) -> tuple[Tensor, Tensor]:
        """Return all generated ``(n, N, M)`` and all reference ``(m, N, M)`` series, in float32."""
        return self._collect("generated"), self._collect("reference")

    def place(self) -> tuple[int, int]:
        """Return this rank and the number of ranks that hold the gathered samples; ``(0, 1)`` if alone."""
        if not (self._is_synced and dist.is_available() and dist.is_initialized()):
            return 0, 1
        return dist.get_rank(self.process_group), dist.get_world_size(self.process_group)

    def _collect(self, name: str) -> Tensor:
        state = getattr(self, name)
        if not len(state) or not len(flat := dim_zero_cat(state)):
            raise ValueError(f"expected `{name}` series, got none: pass them to update() before compute()")
        length, channels = self.shape.tolist()
        return flat.reshape(-1, length, channels)
