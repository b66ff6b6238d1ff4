"""What a stretch without a network call does to samples in the end: where calls of the Wiener cache are worth most.

How wrong a remainder was that was held for a stretch is seen at the next call (``caching/local_error.py``); what
becomes of that error is not. Under strong noise it may decide which series comes out, a little later most of it is
denoised away, and at the end all of it stays. So some samples are drawn with calls close together, and once more for
every stretch, with no call inside it. Between calls there are only sums (``caching/integrating_factor.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_freqdiff.caching.integrating_factor import Frame
from lightning_freqdiff.caching.reuse import store
from lightning_freqdiff.caching.step_cache import run_network
from lightning_freqdiff.condition import Condition
from lightning_freqdiff.diffusion.score import Score
from lightning_freqdiff.sampling import InTurn, Sampling, WorkUnit
from lightning_freqdiff.sampling.noise import normal_stream

STRETCHES, BEND = 24, 0.05
"""How many there are, of about the same length until ``BEND``, in units of ``t + BEND``."""
CLOSE = 3
"""Calls in each of them where they are close together."""
SAMPLES = 32
"""Samples, unless a condition of one's own is known of no more; fewer where the noise between calls would hold more
than ``NUMBERS``."""
NUMBERS = 2**26

Met = dict[int, tuple[Tensor, Tensor]]
"""Samples ``y`` and their remainder at places where the network was called."""


def stretches(times: Tensor) -> list[int]:
    """Return the steps at which stretches start, the first first, for the times of steps ``(T,)``."""
    bent = (times / BEND).log1p()
    ends = torch.linspace(float(bent[0]), 0.0, STRETCHES + 1, dtype=bent.dtype)[:-1]
    return torch.searchsorted(-bent, -ends).clamp(max=len(times) - 1).unique().tolist()


@dataclass(frozen=True)
class Walk:
    """Samples of given noise on their way to the data, with calls at some of given steps.

    Args:
        score: The model.
        frame: Tables of the trajectory.
        condition: What is known of the samples.
        steps: Where calls may be made, increasing, and the end.
        noise: What noise adds to ``y`` from each of them to the next, ``(len(steps) - 1, B, K, F)``.
    """

    score: Score
    frame: Frame
    condition: Condition
    steps: list[int]
    noise: Tensor

    def call(self, y: Tensor, place: int) -> Tensor:
        """Return the remainder of samples ``y`` at one of the steps."""
        step = self.steps[place]
        t, z = self.frame.times[step].to(y), self.frame.product[step] * y
        c = self.score.coefficients(t)
        fresh = run_network(self.score, z, t, c, self.condition)
        return store("wiener", self.score, fresh.eps, z, c, fresh.h0, fresh.features)

    def go(self, y: Tensor, kept: Tensor, place: int, called: set[int]) -> tuple[Tensor, Met]:
        """Go on to the end from a place with a call, calling at others.

        Returns:
            Tokens at the end, ``(B, K, F)``, and ``y`` and remainder at every place with a call.
        """
        met, last = {place: (y, kept)}, len(self.noise)
        while place < last:
            then = next((p for p in range(place + 1, last) if p in called), last)
            start, stop = self.steps[place], self.steps[then]
            y = y + self.frame.held(start, stop).to(y) * kept + self.noise[place:then].sum(0)
            if then < last:
                fresh = self.call(y, then)
                y = y + self.frame.risen(torch.tensor([start], device=y.device), stop).to(y) * (fresh - kept)
                kept, met[then] = fresh, (y, fresh)
            place = then
        return self.frame.product[self.steps[last]] * y, met


def _walk(score: Score, frame: Frame, sampling: Sampling, unit: WorkUnit, steps: list[int]) -> tuple[Walk, Tensor]:
    """Return samples of a unit, and where they start."""
    scale = score.noise_scale
    known, numbers = sampling.known(unit)
    shape = unit.count, scale.shape[0], scale.shape[1]
    stream = normal_stream(unit.seed, numbers, shape, scale.device)
    y = score.coefficients(frame.times[0].to(scale)).level * scale * next(stream)
    noise = y.new_zeros(len(steps) - 1, *y.shape)
    for place, (start, stop) in enumerate(zip(steps[:-1], steps[1:], strict=True)):
        for step in range(start, stop):
            noise[place].addcmul_(next(stream), frame.noise[step])
    return Walk(score, frame, known.to(scale.device).measured(score.codec.logarithm), steps, noise), y


@torch.no_grad()
def stretch_damages(score: Score, frame: Frame, sampling: Sampling) -> tuple[Tensor, Tensor, Tensor]:
    """Measure how far samples end from where they should when one stretch has no call inside it.

    Args:
        score: The model.
        frame: Tables of the trajectory of an SDE.
        sampling: Seed, batch size and condition, and the number of samples where that is one of theirs.

    Returns:
        Times that stretches start at and end at, ``(n,)``, float64, and how far each sample is moved by each of them,
        relative to its norm, ``(n, B)``.
    """
    starts, last = stretches(frame.times), len(frame.times)
    ends = [*starts[1:], last]
    steps = sorted({a + (b - a) * i // CLOSE for a, b in zip(starts, ends, strict=True) for i in range(CLOSE)})
    place = {step: number for number, step in enumerate([*steps, last])}
    asked = SAMPLES if isinstance(sampling.condition, InTurn | None) else sampling.num_samples
    count = max(1, min(asked, NUMBERS // (len(steps) * score.noise_scale.numel())))
    found: list[Tensor] = []
    with score.frozen():
        for unit in sampling.units([(0, count)]):
            walk, y = _walk(score, frame, sampling, unit, [*steps, last])
            every = set(range(len(steps)))
            right, met = walk.go(y, walk.call(y, 0), 0, every)
            right, moved = score.codec.decode(right).flatten(1), []
            for start, stop in zip(starts, ends, strict=True):
                inside = set(range(place[start] + 1, place[stop]))
                tokens, _ = walk.go(*met[place[start]], place[start], every - inside)
                wrong = score.codec.decode(tokens).flatten(1) - right
                moved.append(wrong.norm(dim=1) / right.norm(dim=1).clamp(min=1e-30))
            found.append(torch.stack(moved))
    times = torch.cat([frame.times, frame.times.new_zeros(1)])
    return times[starts], times[ends], torch.cat(found, 1).double().cpu()


def stretch_damage(score: Score, frame: Frame, sampling: Sampling) -> Tensor:
    """Return times in the middle of stretches, increasing, and what each does to samples: ``(2, n)``, float64.

    It is relative to the norm of a series, and over the length of the stretch to the power 3/2. Arguments as of
    :func:`stretch_damages`.
    """
    early, late, moved = stretch_damages(score, frame, sampling)
    # A mean would be that of the few samples that become others, a median knows none; and neighbours have a say.
    damage = moved.sqrt().mean(1).square() / (early - late).pow(1.5)
    padded = torch.nn.functional.pad(damage.clamp(min=1e-30).log().view(1, -1), (1, 1), mode="replicate").flatten()
    smooth = (padded[:-2] / 4 + padded[1:-1] / 2 + padded[2:] / 4).exp()
    return torch.stack([(early + late) / 2, smooth]).flip(1)
