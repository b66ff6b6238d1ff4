"""Forward noising processes: what diffusion does to data as ``t`` runs from 0 to 1.

Song et al., arXiv 2011.13456, table 1 and appendix B. Each is ``dz = f(t) z dt + g(t) Λ dw`` with the Gaussian
marginal ``z_t = α(t) z_0 + σ(t) Λ ξ``. All functions take ``t`` of any shape and return that shape.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

T_MIN = 1e-5
"""Where sampling and training stop short of the data (``ε`` in the papers)."""


class SDE(ABC):
    """A linear forward process, described by scalar functions of time."""

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """Return the mean coefficient ``α(t)``."""

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """Return the noise level ``σ(t)``, in units of ``Λ``."""

    @abstractmethod
    def drift(self, t: Tensor) -> Tensor:
        """Return ``f(t)``, the drift per unit of ``z``."""

    @abstractmethod
    def diffusion(self, t: Tensor) -> Tensor:
        """Return ``g(t)``."""

    def log_snr(self, t: Tensor) -> Tensor:
        """Return ``log(α / σ)``, half the logarithm of the signal-to-noise ratio."""
        return self.alpha(t).log() - self.sigma(t).log()

    def time_at(self, log_snr: Tensor) -> Tensor:
        """Return the times in ``[ε, 1]`` at which ``log(α/σ)`` has given values, by bisection in ``log t``."""
        low = torch.full_like(log_snr, T_MIN, dtype=torch.float64).log()
        high = torch.zeros_like(low)
        for _ in range(60):  # it falls with t in every process here
            middle = (low + high) / 2
            too_early = self.log_snr(middle.exp()) > log_snr
            low, high = torch.where(too_early, middle, low), torch.where(too_early, high, middle)
        return ((low + high) / 2).exp()


@dataclass(frozen=True)
class VP(SDE):
    """Variance-preserving process of the papers: ``f = -β/2``, ``g = √β``, ``σ² = 1 - α²``.

    Args:
        beta_min: Rate of noising at ``t = 0``.
        beta_max: Rate of noising at ``t = 1``.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.beta_min <= self.beta_max:
            raise ValueError(
                f"expected 0 < beta_min <= beta_max, got {self.beta_min} and {self.beta_max}: "
                "set `model.sde.beta_min`, `model.sde.beta_max`"
            )

    def beta(self, t: Tensor) -> Tensor:
        """Return the rate of noising, linear in ``t``."""
        return self.beta_min + t * (self.beta_max - self.beta_min)

    def log_alpha(self, t: Tensor) -> Tensor:
        """Return ``log α = -t²(β₁ - β₀)/4 - tβ₀/2``."""
        return -t * (0.25 * t * (self.beta_max - self.beta_min) + 0.5 * self.beta_min)

    def alpha(self, t: Tensor) -> Tensor:
        """Return ``α(t)``."""
        return self.log_alpha(t).exp()

    def sigma(self, t: Tensor) -> Tensor:
        """Return ``√(1 - α²)``, by expm1: the plain difference has no digits left near ``t = 0``."""
        return (-torch.expm1(2 * self.log_alpha(t))).sqrt()

    def drift(self, t: Tensor) -> Tensor:
        """Return ``-β/2``."""
        return -0.5 * self.beta(t)

    def diffusion(self, t: Tensor) -> Tensor:
        """Return ``√β``."""
        return self.beta(t).sqrt()


@dataclass(frozen=True)
class SubVP(VP):
    """Sub-variance-preserving process: drift and ``α`` of VP, ``σ = 1 - α²``, ``g² = β (1 - α⁴)``.

    Args:
        beta_min: Rate of noising at ``t = 0``.
        beta_max: Rate of noising at ``t = 1``.
    """

    def sigma(self, t: Tensor) -> Tensor:
        """Return ``1 - α²``."""
        return -torch.expm1(2 * self.log_alpha(t))

    def diffusion(self, t: Tensor) -> Tensor:
        """Return ``√(β (1 - α⁴))``."""
        return (-self.beta(t) * torch.expm1(4 * self.log_alpha(t))).sqrt()


@dataclass(frozen=True)
class VE(SDE):
    """Variance-exploding process: no drift, ``σ² = σ_min² ((σ_max/σ_min)^{2t} - 1)``, so that ``σ(0) = 0``.

    Args:
        sigma_min: Scale of the noise at small ``t``.
        sigma_max: Noise level at ``t = 1``.
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max:
            raise ValueError(
                f"expected 0 < sigma_min < sigma_max, got {self.sigma_min} and {self.sigma_max}: "
                "set `model.sde.sigma_min`, `model.sde.sigma_max`"
            )

    @property
    def log_ratio(self) -> float:
        """``log(σ_max / σ_min)``."""
        return math.log(self.sigma_max / self.sigma_min)

    def alpha(self, t: Tensor) -> Tensor:
        """Return 1."""
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        """Return ``σ_min √((σ_max/σ_min)^{2t} - 1)``."""
        return self.sigma_min * torch.expm1(2 * t * self.log_ratio).sqrt()

    def drift(self, t: Tensor) -> Tensor:
        """Return 0."""
        return torch.zeros_like(t)

    def diffusion(self, t: Tensor) -> Tensor:
        """Return ``σ_min (σ_max/σ_min)^t √(2 log(σ_max/σ_min))``."""
        return self.sigma_min * (t * self.log_ratio).exp() * math.sqrt(2 * self.log_ratio)
