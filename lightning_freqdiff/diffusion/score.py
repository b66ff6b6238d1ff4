"""What the network's raw output means: the one place that turns it into a score.

Write ``s = σ(t) Λ`` for the deviation of the noise and ``v`` (1 or 0) for the variance of a standardised
coordinate. Every parametrisation is a way to write the noise prediction ``ξ̂``, and ``score = -ξ̂ / s``:

| name | raw output ``F`` | ``ξ̂`` |
|---|---|---|
| ``wiener`` | unit-variance remainder of the Wiener filter | ``s z / (α²v + s²) - α √(v / (α²v + s²)) F`` |
| ``noise`` | ``ξ`` | ``F`` |
| ``clean`` | ``z_0`` | ``(z - α F) / s`` |
| ``score`` | score | ``-s F`` |

``wiener`` is the preconditioning of Karras et al. (EDM, arXiv 2206.00364, section 5) per frequency: with
``c_skip = αv / (α²v + s²)``, ``c_out = s √(v / (α²v + s²))`` and ``c_in = 1 / √(α²v + s²)`` the denoised
signal is ``c_skip z + c_out F(c_in z, t)``. The linear part is exact and free, and is all of it for Gaussian
data with independent frequencies.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from lightning_freqdiff.diffusion.sde import SDE
from lightning_freqdiff.networks import Architecture, Backbone
from lightning_freqdiff.networks.kernels.compiled import Compiled
from lightning_freqdiff.spectral import Representation, Standardizer

Parametrization = Literal["wiener", "noise", "clean", "score"]


@dataclass(frozen=True)
class Trajectory:
    """What a sampling run is about to ask of a score function.

    Args:
        times: The time of every network call, in order, ``(calls,)``, float64, on the CPU.
        calls_per_step: Network calls that one solver step makes.
        shape: Shape of the tokens, ``(B, K, F)``.
        seed: Seed of the run.
        first: Index of the batch's first sample.
    """

    times: Tensor
    calls_per_step: int
    shape: tuple[int, int, int]
    seed: int
    first: int


class ScoreFunction(ABC):
    """Anything a solver can ask for ``∇ log p_t(z)``."""

    def start(self, trajectory: Trajectory) -> None:  # noqa: B027 (most score functions remember nothing)
        """Be told that a new trajectory begins; what was remembered of the last one is dropped."""

    @abstractmethod
    def __call__(self, z: Tensor, t: Tensor) -> Tensor:
        """Return the score of tokens ``(B, K, F)`` at time ``t``, a scalar or ``(B,)``; same shape out."""


class Coefficients(NamedTuple):
    """Scales at one time, each broadcastable to ``(B, K, F)``.

    ``signal`` is ``α``, ``noise`` is ``s = σΛ``, ``total`` is ``√(α²v + s²)``, the deviation of ``z_t``, or 1
    where that is 0 (masked coordinates) and could not be divided by, and ``spread`` is ``α√v``.
    """

    signal: Tensor
    noise: Tensor
    total: Tensor
    spread: Tensor


class Score(nn.Module, ScoreFunction):
    """A backbone, the units it works in, and the meaning of its output.

    Args:
        architecture: Settings of the backbone, built here for the representation's shape.
        sde: Forward process.
        parametrization: Meaning of the raw output.
        representation: Layout of the tokens.

    Attributes:
        calibration: What was fitted to this network for its caches, by name; see ``calibration.py``.
    """

    noise_scale: Tensor

    def __init__(
        self,
        architecture: Architecture,
        sde: SDE,
        parametrization: Parametrization,
        representation: Representation,
    ) -> None:
        super().__init__()
        if parametrization not in get_args(Parametrization):
            raise ValueError(
                f"expected a parametrization of {', '.join(get_args(Parametrization))}, got "
                f"{parametrization!r}: set `model.parametrization`"
            )
        self.sde: SDE = sde
        self.parametrization: Parametrization = parametrization
        self.network: Backbone = architecture.build(representation.tokens, representation.features)
        self.standardizer = Standardizer(representation.tokens, representation.features)
        self.register_buffer("noise_scale", representation.noise_scale(), persistent=False)
        self.calibration: dict[str, Tensor] = {}
        self._compiled = Compiled(self._call)

    def coefficients(self, t: Tensor) -> Coefficients:
        """Return the scales at time ``t``, a scalar or ``(B,)``."""
        t = t.reshape(-1, 1, 1)
        signal, noise = self.sde.alpha(t), self.sde.sigma(t) * self.noise_scale
        variance = self.standardizer.variance
        total = (signal.square() * variance + noise.square()).sqrt()
        return Coefficients(signal, noise, torch.where(total > 0, total, 1.0), signal * variance.sqrt())

    def embed(self, z: Tensor, t: Tensor, c: Coefficients) -> Tensor:
        """Embed tokens ``(B, K, F)``, scaled to unit variance (EDM's ``c_in``), as features ``h⁰``."""
        return self.network.embed(z / c.total, t)

    def linear_noise(self, z: Tensor, c: Coefficients) -> Tensor:
        """Return the Wiener filter's noise prediction ``s z / (α²v + s²)``: the best linear one."""
        return c.noise * z / c.total.square()

    def noise(self, raw: Tensor, z: Tensor, c: Coefficients) -> Tensor:
        """Turn raw output into the noise prediction ``ξ̂``, ``(B, K, F)``, in float32."""
        raw = raw.float()
        match self.parametrization:
            case "wiener":
                return self.linear_noise(z, c) - c.spread / c.total * raw
            case "noise":
                return raw
            case "clean":
                return _divide(z - c.signal * raw, c.noise)
            case "score":
                return -c.noise * raw

    def target(self, z0: Tensor, xi: Tensor, c: Coefficients) -> tuple[Tensor, Tensor]:
        """Return what the raw output should be, and the error in ``ξ̂`` that a unit error in it makes.

        Args:
            z0: Clean tokens, ``(B, K, F)``.
            xi: The noise added, standard normal, ``(B, K, F)``.
            c: Scales at the times of the samples.
        """
        match self.parametrization:
            case "wiener":
                live = (c.spread > 0).to(z0.dtype)
                return (c.noise * z0 * live - c.spread * xi) / c.total, c.spread / c.total
            case "noise":
                return xi, torch.ones_like(c.noise)
            case "clean":
                return z0, _divide(c.signal.expand_as(c.noise), c.noise)
            case "score":
                return -_divide(xi, c.noise), c.noise

    def from_noise(self, xi: Tensor, c: Coefficients) -> Tensor:
        """Turn a noise prediction into the score ``-ξ̂ / s``, 0 where there is no noise."""
        return -_divide(xi, c.noise)

    def forward(self, z: Tensor, t: Tensor) -> Tensor:
        """Return the score of tokens ``(B, K, F)`` at time ``t``, a scalar or ``(B,)``."""
        if self.network.runs_compiled() and t.ndim == 0:
            return self._compiled(z, t)
        return self._call(z, t)

    def _call(self, z: Tensor, t: Tensor) -> Tensor:
        c = self.coefficients(t)
        raw = self.network.head(self.network.blocks(self.embed(z, t, c)))
        return self.from_noise(self.noise(raw, z, c), c)


def _divide(a: Tensor, scale: Tensor) -> Tensor:
    """Divide, giving 0 on masked coordinates, whose scale is 0."""
    return torch.where(scale > 0, a / torch.where(scale > 0, scale, 1.0), 0.0)
