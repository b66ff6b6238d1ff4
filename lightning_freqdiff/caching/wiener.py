"""The Wiener cache, ours: keep the remainder of the Wiener filter, and let its measured error place the calls.

In coordinates of unit variance the linear part of the score is the Wiener filter: exact, diagonal, free. What the
network adds is the remainder ``u`` (see ``reuse.py``), and only that is cached: between two network calls the
sampling equation is linear in ``z``, and is integrated for the whole stretch at once
(``integrating_factor.py``). When the network is called again, at ``t_b``, the remainder that was held since ``t_a``
turns out to be wrong by ``e = u_b - u_a``. Along an SDE ``u`` is itself a diffusion, so that no extrapolation helps;
but now the stretch has two ends, and a straight line between them corrects it, exactly and for free:

    z ← z + G e,        G = ∫ P(t → t_b) D(t) (t_a - t) / (t_a - t_b) dt

(an exponential trapezoidal rule, with the network called once a stretch, at the predicted ``z``). The size of
``G e`` is the stretch's local error, and places the next call: see ``local_error.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from lightning_freqdiff.caching.base import CachePolicy, Call, Integrate, Ledger, Outcome, bytes_of
from lightning_freqdiff.caching.gather import known_at, rows_of, set_rows, take_rows
from lightning_freqdiff.caching.integrating_factor import Frame
from lightning_freqdiff.caching.local_error import LocalError, expected_rate, local_error, weights
from lightning_freqdiff.caching.presets import Acts
from lightning_freqdiff.caching.reuse import restore, store
from lightning_freqdiff.caching.step_cache import run_network
from lightning_freqdiff.condition import Condition
from lightning_freqdiff.diffusion.score import Score
from lightning_freqdiff.diffusion.score_function import Affine, Trajectory

LATTICE = 0.25
"""Calls are placed where a sample with this share of the tolerance, and a ratio of 1, would place them: close enough
for samples with a larger error than most, and few enough for samples that are due to meet in one network call."""

RATIO_BOUNDS = (0.3, 3.0)
"""How far one measurement may lie from what was expected; beyond, it is taken for chance."""


@dataclass
class WienerState:
    """What is remembered, per sample.

    Args:
        local_error: Expected of a stretch from one step to another.
        lattice: Steps at which calls may be made, increasing, the end last; on the CPU.
        final: Step that no stretch from before it may pass.
        due: Step of the next call, ``(B,)``, on the CPU.
        at: Step of the last call, ``(B,)``, on the CPU.
        ratio: Local error measured over that expected, ``(B,)``.
        kept: Remainder at the last call, ``(B, K, F)``.
    """

    local_error: LocalError
    lattice: Tensor
    final: int
    due: list[int]
    at: list[int]
    ratio: Tensor
    kept: Tensor = field(default_factory=lambda: torch.empty(0))


@dataclass(frozen=True)
class Wiener(CachePolicy):
    """Hold the Wiener remainder between calls that its measured error places, and correct each stretch at its end.

    Under a solver whose steps are affine (Euler-Maruyama, DDIM) whole stretches are integrated at once; under the
    others the remainder is held step by step, without the correction.

    Args:
        tolerance: Local error that a stretch between two calls may make, relative to the series; 0 calls at every
            step.
        caution: How much more an early error counts than a late one: ``κ`` in ``exp(κ t)``. Where ``calibrate``
            measured what errors come to, it says only for how many calls a tolerance stands.
        longest: Longest stretch, as a share of the trajectory.
        final: Time of the last call, where the trajectory has steps after it.
        memory: Share of its old value that a sample's ratio of measured to expected error keeps; 1 makes the calls
            a clock that all samples share.
        correct: Correct a stretch once its other end is known.
        calibrated: Use what ``calibrate`` measured on the checkpoint, where it did.
    """

    LIMITS: ClassVar[dict[str, tuple[float, float]]] = {
        "tolerance": (0, math.inf),
        "caution": (-50, 50),
        "longest": (0, 1),
        "final": (0, 1),
        "memory": (0, 1),
    }
    ACTS: ClassVar[dict[str, Acts]] = dict.fromkeys(
        ("caution", "longest", "final", "memory", "correct", "calibrated"),
        ("with a tolerance above 0", lambda s: s.tolerance > 0),
    )
    tolerance: float = 0.05
    caution: float = 5.0
    longest: float = 0.2
    final: float = 0.01
    memory: float = 0.5
    correct: bool = True
    calibrated: bool = True

    def begin(self, score: Score, trajectory: Trajectory) -> WienerState:
        """Start with nothing cached and every sample due."""
        times = trajectory.times[:: trajectory.calls_per_step].double()
        return self._state(score, times, trajectory.shape[0], trajectory.noisy)

    def _state(self, score: Score, times: Tensor, batch: int, noisy: bool) -> WienerState:
        ends = torch.cat([times, times[-1:] - (times[-2:-1] - times[-1:] if len(times) > 1 else 0)]).clamp(min=0)
        # Along an ODE the local error has another power of time, and what was calibrated along an SDE does not apply.
        calibrated = self.calibrated and noisy
        rate = expected_rate(score, times, calibrated)
        weight = weights(score, rate, times, self.caution, calibrated)
        expected = LocalError(rate, ends, 1.5 if noisy else 2.0, weight)
        ratio = torch.ones(batch, dtype=torch.float64, device=score.noise_scale.device)
        final = int((times >= self.final).sum()) - 1
        return WienerState(expected, self._lattice(expected, final), final, [0] * batch, [0] * batch, ratio)

    def _lattice(self, expected: LocalError, final: int) -> Tensor:
        """Place the steps at which calls may be made; all of them at a tolerance of 0."""
        # One sample for which every step is on the lattice: where would it go?
        everywhere = torch.arange(len(expected.times))
        share = torch.tensor([LATTICE * self.tolerance], dtype=torch.float64)
        points = [0]
        while points[-1] < len(expected.rate):
            points.append(int(self._furthest(expected, everywhere, final, points[-1], share)[0]))
        return torch.tensor(points)

    def _furthest(self, expected: LocalError, lattice: Tensor, final: int, now: int, allowed: Tensor) -> Tensor:
        """Return the last step of the lattice that a local error of at most ``allowed`` can reach, ``(n,)``."""
        stops = lattice[lattice > now]
        steps = len(expected.rate)
        last = min(now + max(1, round(self.longest * steps)), final if now < final else steps)
        stops = stops[: max(1, int((stops <= last).sum()))]
        reach = torch.searchsorted(expected.ahead(now, stops).clamp(min=1e-300), allowed, right=True)  # 0 allows none
        return stops[(reach - 1).clamp(min=0)]

    def _next(self, state: WienerState, now: int, ratio: Tensor) -> list[int]:
        """Return the step of the next call of samples that were called ``now``."""
        allowed = self.tolerance / ratio.cpu()
        return self._furthest(state.local_error, state.lattice, state.final, now, allowed).tolist()

    def _measure(
        self, score: Score, state: WienerState, moved: Tensor, start: list[int], now: int, rows: Any
    ) -> None:
        """Learn from the local error of stretches; ``moved`` is ``G e`` at their end, ``(n, K, F)``."""
        if self.memory == 1:
            return
        measured = local_error(score, moved)
        expected = state.local_error.plain(torch.tensor(start), now).to(measured)
        news = (measured / expected.clamp(min=1e-300)).clamp(*RATIO_BOUNDS).log()
        old = take_rows(state.ratio, rows).log()
        state.ratio = set_rows(state.ratio, rows, (self.memory * old + (1 - self.memory) * news).exp())

    def evaluate(self, score: Score, z: Tensor, call: Call, state: WienerState) -> tuple[Outcome, WienerState]:
        """Step by step, under any solver: call the network for the samples that are due, hold the rest."""
        c = score.coefficients(call.t)
        due = [step <= call.step or call.last for step in state.due]
        past = restore("wiener", score, state.kept, z, call.t, c) if state.kept.numel() else None
        if past is not None and not any(due):
            return Outcome.whole(past, 0.0), state
        rows = rows_of(due, z.device)
        zs = take_rows(z, rows)
        condition = call.condition if rows is None else call.condition.take(rows)
        fresh = run_network(score, zs, call.t, c, condition)
        kept = store("wiener", score, fresh.eps, zs, c, fresh.h0, fresh.features)
        eps, error = fresh.eps, None
        if past is not None:
            squared = (fresh.eps - take_rows(past, rows)).square().mean((1, 2))
            eps, error = set_rows(past, rows, fresh.eps), known_at(rows, squared, len(z))
            start = [state.at[b] for b, yes in enumerate(due) if yes]
            times = state.local_error.times
            q = (times[torch.tensor(start)] - times[call.step]).to(z).reshape(-1, 1, 1)
            rate = (
                score.sde.diffusion(call.t).square()
                * score.noise_scale.square()
                * c.spread
                / c.total
                / c.sigma.clamp(min=1e-6)
            )
            self._measure(score, state, 0.5 * q * rate * (kept - take_rows(state.kept, rows)), start, call.step, rows)
        state.kept = set_rows(state.kept, rows, kept) if state.kept.numel() else kept
        self._schedule(state, due, call.step, rows)
        return Outcome.whole(eps, torch.tensor(due, dtype=z.dtype, device=z.device), error), state

    def _schedule(self, state: WienerState, due: list[bool], now: int, rows: Tensor | None) -> None:
        stops = iter(self._next(state, now, take_rows(state.ratio, rows)))
        for b, yes in enumerate(due):
            if yes:
                state.at[b], state.due[b] = now, next(stops)

    def integrator(self, score: Score, times: Tensor, steps: list[Affine]) -> Integrate | None:
        """Make the Wiener frame, unless every step is to be called, none corrected, or a step cannot be undone."""
        frame = Frame.build(score, times, steps) if self.tolerance > 0 and self.correct else None
        return None if frame is None else partial(self._integrate, score, frame)

    def _integrate(
        self,
        score: Score,
        frame: Frame,
        trajectory: Trajectory,
        ledger: Ledger,
        z: Tensor,
        noise: Iterator[Tensor],
        on_step: Callable[[int], None] | None,
    ) -> Tensor:
        """Run a whole trajectory, a stretch at a time."""
        state = self._state(score, frame.times, len(z), frame.noisy)
        y, total, due, skipped = z.clone(), len(frame.times), 0, []
        for i, weight in enumerate(frame.noise.unbind()):
            if due <= i:
                y = self._call(score, frame, y, i, state, trajectory.condition, ledger)
                due = min(state.due)
            else:
                skipped.append(i)
            if frame.noisy:
                y.addcmul_(next(noise), weight)
            if on_step is not None:
                on_step(i)
        ledger.skip(skipped, len(z))
        ledger.memory = max(ledger.memory, bytes_of(state) + bytes_of(frame))
        y = y + frame.held(torch.tensor(state.at, device=z.device), total).to(y) * state.kept
        return frame.product[total] * y

    def _call(
        self,
        score: Score,
        frame: Frame,
        y: Tensor,
        now: int,
        state: WienerState,
        condition: Condition,
        ledger: Ledger,
    ) -> Tensor:
        """Finish the stretches that end here, call the network for their samples, and correct them."""
        due = [step <= now for step in state.due]
        rows, product = rows_of(due, y.device), frame.product[now]
        start = [state.at[b] for b, yes in enumerate(due) if yes]
        ys, first = take_rows(y, rows), state.kept.numel() == 0
        if not first:
            since = torch.tensor(start, device=y.device)
            held = take_rows(state.kept, rows)
            ys = ys + frame.held(since, now).to(y) * held
        t = frame.times[now].to(y)
        c = score.coefficients(t)
        zs = product * ys
        fresh = run_network(score, zs, t, c, condition if rows is None else condition.take(rows))
        kept = store("wiener", score, fresh.eps, zs, c, fresh.h0, fresh.features)
        error = None
        if not first:
            wrong = kept - held  # pyright: ignore[reportPossiblyUnboundVariable]
            moved = frame.risen(since, now).to(y) * wrong  # pyright: ignore[reportPossiblyUnboundVariable]
            ys = ys + moved
            self._measure(score, state, product * moved, start, now, rows)
            error = known_at(rows, (c.spread / c.total * wrong).square().mean((1, 2)), len(y))
        state.kept = kept if first else set_rows(state.kept, rows, kept)
        self._schedule(state, due, now, rows)
        ledger.add(now, Outcome.whole(y, torch.tensor(due, dtype=y.dtype, device=y.device), error))
        return set_rows(y, rows, ys)
