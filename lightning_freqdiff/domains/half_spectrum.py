"""The half-spectrum: one token for each frequency.

A real series ``x`` of shape ``(B, N, M)`` has the unitary spectrum ``rfft(x, norm="ortho")`` over
``K = N // 2 + 1`` frequencies; the others mirror them. One token per frequency holds its real, then its
imaginary parts: ``z_k = [Re, Im]`` of width ``2M`` (E2-CRF, arXiv 2604.22901, section 3.3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_freqdiff.domains.base import Domain, Transform


def to_half_spectrum(x: Tensor) -> Tensor:
    """Transform series into half-spectrum tokens.

    Args:
        x: Real series, ``(B, N, M)``.

    Returns:
        Tokens ``(B, K, 2M)``, real parts before imaginary parts, ``K = N // 2 + 1``.

    Examples:
        >>> to_half_spectrum(torch.ones(1, 4, 1)).squeeze(0).tolist()
        [[2.0, 0.0], [0.0, 0.0], [0.0, 0.0]]
    """
    # The mean goes to DC by itself: beside a large offset, float32 would leave no digits to the other frequencies.
    mean = x.mean(dim=1, keepdim=True)
    spectrum = torch.fft.rfft(x - mean, dim=1, norm="ortho")
    real = torch.cat([mean * math.sqrt(x.shape[1]), spectrum.real[:, 1:]], dim=1)
    return torch.cat([real, spectrum.imag], dim=-1)


def from_half_spectrum(z: Tensor, length: int) -> Tensor:
    """Transform half-spectrum tokens ``(B, K, 2M)`` back into series ``(B, N, M)`` with ``N = length``.

    Exact to float rounding for even and odd ``N``; the imaginary parts at DC and, for even ``N``, at the
    Nyquist frequency carry no data and are ignored.
    """
    real, imag = z.chunk(2, dim=-1)
    mean = real[:, :1] / math.sqrt(length)
    rest = torch.complex(torch.cat([torch.zeros_like(mean), real[:, 1:]], dim=1), imag)
    return torch.fft.irfft(rest, n=length, dim=1, norm="ortho") + mean


def spectral_density(x: Tensor) -> Tensor:
    """Return the energy per frequency of series ``(B, N, M)``: ``|x~_k|^2``, shape ``(B, K, M)``."""
    return torch.fft.rfft(x, dim=1, norm="ortho").abs().square()


@dataclass(frozen=True)
class HalfSpectrum(Domain):
    """Half-spectrum: a token is a frequency, real parts before imaginary parts."""

    def build(self, length: int) -> HalfSpectrumTransform:
        """Make the transform."""
        return HalfSpectrumTransform(length)

    def __str__(self) -> str:
        """Return the name."""
        return "frequency"


class HalfSpectrumTransform(Transform):
    """Unitary Fourier transform, the mirrored half left out.

    Args:
        length: Steps of the series, ``N``.
    """

    def __init__(self, length: int) -> None:
        super().__init__(length // 2 + 1, 2)
        self.length = length
        self.frequencies = torch.arange(self.tokens, dtype=torch.float64) / length

    def forward(self, x: Tensor) -> Tensor:
        """Transform series."""
        return to_half_spectrum(x)

    def inverse(self, z: Tensor) -> Tensor:
        """Transform back."""
        return from_half_spectrum(z, self.length)

    def noise_scale(self) -> Tensor:
        r"""Return :math:`\Lambda`.

        White noise of unit variance has deviation 1 on the real part at DC and Nyquist, 0 on their imaginary parts
        and :math:`1/\sqrt 2` elsewhere (E2-CRF appendix A.9; Crabbé et al., arXiv 2402.05933, proposition 3.1).
        """
        scale = torch.full((self.tokens, 2), math.sqrt(0.5))
        unpaired = [0, self.tokens - 1] if self.length % 2 == 0 else [0]
        scale[unpaired, 0], scale[unpaired, 1] = 1.0, 0.0
        return scale

    def density(self, power: Tensor) -> Tensor:
        """Return squared real parts plus squared imaginary parts."""
        return torch.stack(power.chunk(2, dim=-1)).sum(0)
