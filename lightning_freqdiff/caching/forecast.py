"""Forecasters: compute every so often, and at the steps between predict the features from their history."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from torch import Tensor

from lightning_freqdiff.caching.base import CachePolicy, Call, Outcome
from lightning_freqdiff.caching.reuse import restore, store
from lightning_freqdiff.caching.step_cache import run_network
from lightning_freqdiff.diffusion.score import Score
from lightning_freqdiff.diffusion.score_function import Trajectory


def differences(old: list[Tensor], kept: Tensor, gap: float, order: int) -> list[Tensor]:
    """Return what was kept at the last call, and its backward differences, each divided by the gap.

    Args:
        old: The same at the call before, as far as it goes; it goes up by one order at most.
        kept: What was kept at the last call.
        gap: From that call to this one, in steps or in time.
        order: Highest difference.
    """
    found = [kept]
    for n in range(min(order, len(old))):
        found.append((found[n] - old[n]) / gap)
    return found


@dataclass
class ForecastState:
    """What a forecaster remembers.

    Args:
        settings: Every setting of the policy, for this trajectory.
        start: Time of the first call.
        end: Time of the last.
        times: Times of the network calls so far.
        skipped: Calls skipped since the last one.
        terms: Tensors that a forecast is a weighted sum of, each ``(B, K, *)``.
        history: What was kept at those calls, as far as it is still needed, each ``(B, K, *)``.
        gap: Time between the last two calls.
        fit: Whatever else the weights are made of.
    """

    settings: SimpleNamespace
    start: float
    end: float
    times: list[float] = field(default_factory=list)
    skipped: int = 0
    terms: list[Tensor] = field(default_factory=list)
    history: list[Tensor] = field(default_factory=list)
    gap: float = 1.0
    fit: Any = None


class Forecaster(CachePolicy):
    """Compute by a clock that all samples share, and forecast between. The last step is always computed.

    By default the clock makes ``warmup`` network calls in a row, where there is such a setting, and then one every
    ``interval`` steps.
    """

    def begin(self, score: Score, trajectory: Trajectory) -> ForecastState:
        """Start with no history."""
        steps = len(trajectory.times) // trajectory.calls_per_step
        return ForecastState(self.settings_for(steps), float(trajectory.times[0]), float(trajectory.times[-1]))

    def is_due(self, state: ForecastState) -> bool:
        """Say whether the network is called now."""
        s = state.settings
        return len(state.times) < getattr(s, "warmup", 1) or state.skipped + 1 >= s.interval

    @abstractmethod
    def learn(self, state: ForecastState, kept: Tensor, t: float) -> None:
        """Take a network call's features into the history, and make the terms of the forecasts to come."""

    @abstractmethod
    def weights(self, state: ForecastState, t: float) -> Sequence[float | Tensor]:
        """Return the weight of each term at time ``t``: a number, or ``(B, 1, 1)`` where samples have their own."""

    def evaluate(self, score: Score, z: Tensor, call: Call, state: ForecastState) -> tuple[Outcome, ForecastState]:
        """Compute or forecast."""
        c, s = score.coefficients(call.t), state.settings
        error = None
        due = not state.times or call.last or self.is_due(state)
        if state.times:
            weights = self.weights(state, call.time)
            kept = sum(
                (w * term for w, term in zip(weights[1:], state.terms[1:], strict=True)), weights[0] * state.terms[0]
            )
            past = restore(s.stale, score, kept, z, call.t, c, call.condition)
        if not due:
            state.skipped += 1
            return Outcome.whole(past, 0.0), state  # pyright: ignore[reportPossiblyUnboundVariable]
        fresh = run_network(score, z, call.t, c, call.condition)
        if state.times:
            error = (fresh.eps - past).square().mean((1, 2))  # pyright: ignore[reportPossiblyUnboundVariable]
        kept = store(s.stale, score, fresh.eps, z, c, fresh.h0, fresh.features)
        if not state.times or state.times[-1] != call.time:
            self.learn(state, kept, call.time)
            state.times.append(call.time)
        state.skipped = 0
        return Outcome.whole(fresh.eps, 1.0, error), state
