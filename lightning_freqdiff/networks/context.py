"""What all blocks of a network are scaled and shifted by: diffusion time, label and static covariates."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_freqdiff.condition import Condition, ConditionSizes


class FourierTime(nn.Module):
    """Diffusion time as random Fourier features and a dense layer (Tancik et al., arXiv 2006.10739).

    Args:
        width: Width of the result, even.
        scale: Standard deviation of the random frequencies, in cycles per unit of ``t``. The papers use 30;
            less makes the network smoother in time, which caches reward.
    """

    frequencies: Tensor

    def __init__(self, width: int, scale: float) -> None:
        super().__init__()
        self.register_buffer("frequencies", 2 * math.pi * scale * torch.randn(width // 2))
        self.dense = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Tensor) -> Tensor:
        """Embed times of shape ``()`` or ``(B,)`` as ``(1, 1, width)`` or ``(B, 1, width)``."""
        angle = t.reshape(-1, 1, 1) * self.frequencies
        return self.dense(torch.cat([angle.sin(), angle.cos()], dim=-1))


class Context(nn.Module):
    """Embeds time and condition as one vector for each sample.

    Args:
        width: Width of the vector.
        time_scale: Scale of the Fourier features of time.
        sizes: Which conditions there will be.
    """

    def __init__(self, width: int, time_scale: float, sizes: ConditionSizes) -> None:
        super().__init__()
        self.time = FourierTime(width, time_scale)
        self.label = nn.Embedding(sizes.classes + 1, width) if sizes.classes else None  # the last: not known
        self.static = nn.Linear(2 * sizes.static, width) if sizes.static else None

    def forward(self, count: int, t: Tensor, condition: Condition) -> Tensor:
        """Embed time ``t``, a scalar or ``(B,)``, and the condition of ``count`` samples as ``(B, width)``."""
        context = self.time(t).flatten(1).expand(count, -1)
        if self.label is not None:
            unknown = torch.full((count,), -1, device=context.device)
            label = unknown if condition.label is None else condition.label
            context = context + self.label(label % self.label.num_embeddings)
        if self.static is not None:
            size = self.static.in_features // 2
            missing = torch.full((count, size), torch.nan, device=context.device)
            static = (missing if condition.static is None else condition.static).to(self.static.weight)
            told = ~static.isnan()  # said as well, as an average value is not the same as none
            context = context + self.static(torch.cat([torch.where(told, static, 0.0), told.to(static)], dim=-1))
        return F.silu(context)
