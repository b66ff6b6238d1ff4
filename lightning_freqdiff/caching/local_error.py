"""What a stretch without network calls does to a series: how it is measured, and how it is foreseen.

Its local error grows as ``h^{3/2}`` with its length ``h`` along an SDE, where the remainder ``u`` is a
diffusion (``h²`` along an ODE), and in much the same way for all data: as the derivative of
``q = σ / √(α² + σ²)``, in which the sampling equation weighs ``u`` evenly. So a stretch that starts at ``t_a``
is made as long as

    exp(κ t) (1 + τ/t) · ratio · |dq/dt| · h^{3/2} ≤ tolerance,      t in its middle,

``ratio`` learnt for each sample from the local errors measured at its own calls. The weight before it stands for what
an error comes to in the end: an early one may make another series, one in the middle is denoised away, and the last
ones stay. ``calibrate`` replaces ``|dq/dt|`` and the weight by what it measured (``evaluation/stretches.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lightning_freqdiff.diffusion.score import Score

END = 0.1
"""``τ``: the time from which on errors are no longer denoised away."""


@dataclass(frozen=True)
class LocalError:
    """The local error to expect of a stretch, relative to the norm of a series.

    Args:
        rate: Local error per ``h`` to the power, at every step, ``(T,)``, on the CPU.
        times: Time of each step and of the end, ``(T + 1,)``.
        power: 3/2 along an SDE, 2 along an ODE.
        weight: What an error at every step comes to, ``(T,)``.
    """

    rate: Tensor
    times: Tensor
    power: float
    weight: Tensor

    def plain(self, start: Tensor, stop: Tensor | int) -> Tensor:
        """Return the local error of stretches, without the weight of time."""
        return self.rate[self._middle(start, stop)] * (self.times[start] - self.times[stop]).pow(self.power)

    def _middle(self, start: Tensor, stop: Tensor | int) -> Tensor:
        return torch.as_tensor((start + stop) // 2).clamp(max=len(self.rate) - 1)

    def ahead(self, start: int, stops: Tensor) -> Tensor:
        """Return the weighted local error of stretches from one step to several, made to grow with their length."""
        starts = torch.full_like(stops, start)
        return (self.plain(starts, stops) * self.weight[self._middle(starts, stops)]).cummax(0).values


def local_error(score: Score, moved: Tensor) -> Tensor:
    """Return the norm of a change of tokens ``(n, K, F)`` over that of a typical series, in data units: ``(n,)``."""
    codec, live = score.codec, score.noise_scale > 0
    scale = codec.scale * codec.active
    weight = torch.where(
        live, 1 / torch.where(live, score.noise_scale, 1.0), 0.0
    )  # Parseval: a frequency counts twice
    norm = (weight * (codec.mean.square() + codec.deviation.square()).sqrt()).norm()
    return (moved * (weight * scale)).double().flatten(1).norm(dim=1) / norm.clamp(min=1e-30)


def expected_rate(score: Score, times: Tensor, calibrated: bool) -> Tensor:
    """Return the expected local error at each of the times ``(T,)``: as measured by ``calibrate``, or ``|dq/dt|``."""
    profile = score.calibration.get("wiener.rate")
    if calibrated and profile is not None:
        grid = np.linspace(0, 1, len(profile))
        return torch.from_numpy(np.interp(times.numpy(), grid, profile.double().cpu().numpy()))
    early, late = (times + 5e-5).clamp(max=1), (times - 5e-5).clamp(min=1e-6)
    alpha, sigma = (torch.stack([f(early), f(late)]) for f in (score.sde.alpha, score.sde.sigma))
    q = sigma / (alpha.square() + sigma.square()).sqrt()
    return (q[0] - q[1]) / (early - late)


def weights(score: Score, expected: Tensor, times: Tensor, caution: float, calibrated: bool) -> Tensor:
    """Return what an error at each of the times ``(T,)`` comes to: as measured by ``calibrate``, or foreseen.

    What was measured is scaled so that a tolerance stands for as many calls as it does with what is foreseen.

    Args:
        score: The model.
        expected: Expected local error at the times, :func:`expected_rate`.
        times: The times, decreasing, float64.
        caution: ``κ``.
        calibrated: Whether to use what was measured.
    """
    plain, profile = (caution * times).exp() * (1 + END / times), score.calibration.get("wiener.damage")
    if not calibrated or profile is None:
        return plain
    known, damage = profile.double().cpu().clamp(min=1e-30).numpy()
    bent = np.interp(np.log1p(times.numpy() / END), np.log1p(known / END), np.log(damage))
    least = 1e-6 * float(expected.max()) or 1.0
    weight = torch.from_numpy(np.exp(bent)) / expected.clamp(min=least)
    calls, asked = ((expected * w).pow(2 / 3).sum() for w in (weight, plain))
    return weight * (asked / calls).pow(1.5) if calls > 0 and asked > 0 else plain
