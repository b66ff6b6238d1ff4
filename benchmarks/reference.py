"""The reference design of Crabbé et al. (arXiv 2402.05933), written from the paper's description for comparison.

``N`` tokens of ``M`` numbers (real parts of the frequencies, then imaginary parts), PyTorch's own post-norm encoder,
Fourier features of time at scale 30, and a sampler that multiplies by dense ``N x N`` diagonal matrices each step.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lightning_freqdiff.diffusion.sde import T_MIN, VP


class ReferenceNetwork(nn.Module):
    """Encoder over all ``N`` real coordinates of the spectrum; outputs the score."""

    frequencies: Tensor

    def __init__(
        self, length: int, channels: int, layers: int = 10, heads: int = 12, width: int = 72, hidden: int = 2048
    ) -> None:
        super().__init__()
        self.token, self.out = nn.Linear(channels, width), nn.Linear(width, channels)
        self.position = nn.Parameter(0.02 * torch.randn(length, width))
        self.register_buffer("frequencies", 2 * math.pi * 30 * torch.randn(width // 2))
        self.dense = nn.Linear(width, width)
        layer = nn.TransformerEncoderLayer(width, heads, hidden, batch_first=True, dropout=0.0)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)

    def forward(self, z: Tensor, t: Tensor) -> Tensor:
        """Return the score of ``(B, N, M)`` at times ``(B,)``."""
        angle = t.unsqueeze(1) * self.frequencies
        time = self.dense(torch.cat([angle.sin(), angle.cos()], dim=1)).unsqueeze(1)
        return self.out(self.encoder(self.token(z) + self.position + time))


def reference_scale(length: int) -> Tensor:
    """Return the diagonal of ``Λ`` in the reference's layout of real, then imaginary parts, ``(N,)``."""
    scale = torch.full((length,), math.sqrt(0.5))
    scale[0] = 1.0
    if length % 2 == 0:
        scale[length // 2] = 1.0
    return scale


@torch.no_grad()
def reference_steps(network: nn.Module, z: Tensor, times: list[float]) -> Tensor:
    """Run Euler-Maruyama over ``times`` on ``z``, ``(B, N, M)``, with the reference's operations."""
    sde, scale = VP(), reference_scale(z.shape[1]).to(z.device)
    for now, then in zip(times[:-1], times[1:], strict=True):
        t = torch.full((len(z),), now, device=z.device)
        beta = sde.beta(t)
        drift = -0.5 * beta.view(-1, 1, 1) * z
        diffusion = torch.diag_embed(beta.sqrt().unsqueeze(1) * scale)  # (B, N, N), as published
        score = network(z, t).float()
        size = now - then
        mean = z - (drift - torch.matmul(diffusion * diffusion, score)) * size
        z = mean + math.sqrt(size) * torch.matmul(diffusion, torch.randn_like(z))
    return z


def uniform_times(steps: int) -> list[float]:
    """Return ``steps + 1`` times from 1 to ``ε``."""
    return torch.linspace(1, T_MIN, steps + 1).tolist()
