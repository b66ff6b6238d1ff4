"""What may be asked of series by name: values, sums, means, bounds, monotone parts, channels that add up."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


class Rule:
    """What holds of some steps of a channel; no dataclass itself, so that others are found by their names."""

    channel: int | None
    start: int
    stop: int | None

    def touched(self, channels: int) -> list[int]:
        """Return the numbers of the channels that it is about."""
        return list(range(channels)) if self.channel is None else [self.channel]

    def of_logarithms(self, logarithms: Collection[int], channels: int) -> Sequence[Rule]:
        """Return rules that say the same where the logarithm of some channels is learnt.

        Raises:
            ValueError: Where there are none.
        """
        if set(self.touched(channels)).isdisjoint(logarithms):
            return [self]
        raise ValueError(
            f"expected Fixed, Bounds or Monotone of channels whose logarithm is learnt, got {type(self).__name__}: "
            "set `sampling.constraint.rules`, or train with `model.logarithm` never"
        )

    def where(self, length: int, channels: int) -> Tensor:
        """Return 1 where the rule looks, else 0, ``(N, M)``, float64.

        Raises:
            ValueError: Where there is no such channel, or no step.
        """
        last = length if self.stop is None else self.stop
        if not 0 <= self.start < last <= length or not (self.channel is None or 0 <= self.channel < channels):
            raise ValueError(
                f"expected {type(self).__name__} of steps from 0 to {length} and channels below {channels}, got "
                f"start {self.start}, stop {self.stop}, channel {self.channel}: set `sampling.constraint.rules`"
            )
        chosen = torch.zeros(length, channels, dtype=torch.float64)
        chosen[self.start : last, slice(None) if self.channel is None else self.channel] = 1
        return chosen


@dataclass(frozen=True, kw_only=True)
class _Placed(Rule):
    """A rule and its place.

    Args:
        channel: Number of the channel; all of them, each by itself, if not given.
        start: First step.
        stop: Step after the last; the end if not given.
    """

    channel: int | None = None
    start: int = 0
    stop: int | None = None


class Equation(_Placed, ABC):
    """Sums of numbers of a series that are known."""

    @abstractmethod
    def equations(self, length: int, channels: int) -> tuple[Tensor, Tensor]:
        """Return weights ``(k, N * M)`` and what they sum to, ``(k,)``, float64."""


class Shape(_Placed, ABC):
    """A convex set that series lie in."""

    @abstractmethod
    def project(self, x: Tensor) -> Tensor:
        """Return the nearest series ``(B, N, M)`` that obey."""


@dataclass(frozen=True, kw_only=True)
class _Valued(Equation):
    """Sums that are all the same.

    Args:
        value: What they are, in the data's units.
    """

    value: float = 0.0

    def equations(self, length: int, channels: int) -> tuple[Tensor, Tensor]:
        """Return one equation for each sum."""
        rows = self.weights(self.where(length, channels))
        return rows, rows.new_full((len(rows),), self.value)

    @abstractmethod
    def weights(self, chosen: Tensor) -> Tensor:
        """Return the weights ``(k, N * M)`` of sums over numbers ``(N, M)``, 1 where they are chosen."""


class Fixed(_Valued):
    """Every number is the same known value."""

    def weights(self, chosen: Tensor) -> Tensor:
        """Return one row for each number."""
        return torch.eye(chosen.numel(), dtype=chosen.dtype)[chosen.flatten() > 0]

    def of_logarithms(self, logarithms: Collection[int], channels: int) -> Sequence[Rule]:
        """Return the same of each channel, of its logarithm where that is learnt."""
        if set(self.touched(channels)).isdisjoint(logarithms):
            return [self]
        return [
            replace(self, channel=m, value=_logarithm(self.value) if m in logarithms else self.value)
            for m in self.touched(channels)
        ]


class Sum(_Valued):
    """The sum over the steps is known."""

    def weights(self, chosen: Tensor) -> Tensor:
        """Return one row for each channel."""
        some = chosen.any(0).nonzero().flatten()
        return torch.stack([chosen * (torch.arange(chosen.shape[1]) == m) for m in some]).flatten(1)


class Mean(Sum):
    """The mean over the steps is known."""

    def weights(self, chosen: Tensor) -> Tensor:
        """Return one row for each channel."""
        rows = super().weights(chosen)
        return rows / rows.sum(1, keepdim=True)


@dataclass(frozen=True, kw_only=True)
class Total(Equation):
    """At every step, one channel is the sum of others.

    Args:
        channel: The channel that is the sum.
        parts: The channels that add up to it; all others if none are given.
    """

    parts: tuple[int, ...] = ()

    def touched(self, channels: int) -> list[int]:
        """Return the sum's channel and its parts'."""
        return [m for m in range(channels) if not self.parts or m == self.channel or m in self.parts]

    def equations(self, length: int, channels: int) -> tuple[Tensor, Tensor]:
        """Return one equation for each step."""
        whole = self.where(length, channels)
        parts = self.parts or tuple(m for m in range(channels) if m != self.channel)
        if self.channel is None or not parts or any(not 0 <= m < channels or m == self.channel for m in parts):
            raise ValueError(
                f"expected a channel that others below {channels} add up to, got channel {self.channel} and parts "
                f"{list(self.parts)}: set `sampling.constraint.rules`"
            )
        steps = whole[:, self.channel].nonzero().flatten()
        rows = torch.zeros(len(steps), length, channels, dtype=whole.dtype)
        each = torch.arange(len(steps))
        rows[each, steps, self.channel] = 1
        for m in parts:
            rows[each, steps, m] = -1
        return rows.flatten(1), rows.new_zeros(len(rows))


@dataclass(frozen=True, kw_only=True)
class Bounds(Shape):
    """No number is below or above a bound.

    Args:
        low: The least value, in the data's units; none if not given.
        high: The greatest.
    """

    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(
                f"expected bounds with low below high, got {self.low} and {self.high}: set "
                "`sampling.constraint.rules`"
            )

    def of_logarithms(self, logarithms: Collection[int], channels: int) -> Sequence[Rule]:
        """Return the same of each channel, of its logarithm where that is learnt, which has no least value."""
        if set(self.touched(channels)).isdisjoint(logarithms):
            return [self]
        low = None if self.low is None or self.low <= 0 else math.log(self.low)
        high = None if self.high is None else _logarithm(self.high)
        return [
            replace(self, channel=m, low=low, high=high) if m in logarithms else replace(self, channel=m)
            for m in self.touched(channels)
        ]

    def project(self, x: Tensor) -> Tensor:
        """Cut off what is outside."""
        if self.low is None and self.high is None:
            return x
        chosen = self.where(*x.shape[1:]).to(x.device)
        return torch.where(chosen > 0, x.clamp(self.low, self.high), x)


@dataclass(frozen=True, kw_only=True)
class Monotone(Shape):
    """Steps never fall, or never rise.

    Args:
        rising: Whether they never fall.
    """

    rising: bool = True

    def of_logarithms(self, logarithms: Collection[int], channels: int) -> Sequence[Rule]:
        """Return it as it is: the logarithm rises where its number does."""
        return [self]

    def project(self, x: Tensor) -> Tensor:
        """Return the isotonic regression (Barlow and Brunk, "The isotonic regression problem" (1972))."""
        chosen = self.where(*x.shape[1:])
        steps, channels = chosen.any(1).nonzero().flatten(), chosen.any(0).nonzero().flatten()
        picked = (slice(None), steps.to(x.device).unsqueeze(1), channels.to(x.device))
        sign = 1 if self.rising else -1
        rows = sign * x[picked].transpose(1, 2)
        changed = x.clone()
        changed[picked] = sign * isotonic(rows.flatten(0, 1)).view(rows.shape).transpose(1, 2)
        return changed


def _logarithm(value: float) -> float:
    """Return the logarithm of what values are to be, or not to pass."""
    if value <= 0:
        raise ValueError(
            f"expected a value above 0 for a channel whose logarithm is learnt, got {value:g}: set "
            "`sampling.constraint.rules`"
        )
    return math.log(value)


def isotonic(rows: Tensor, chunk: int = 2**24) -> Tensor:
    """Return the nearest rows ``(R, N)`` that never fall, by the max-min formula.

    Args:
        rows: Rows.
        chunk: Numbers worked on at once.

    Examples:
        >>> isotonic(torch.tensor([[1.0, 3.0, 2.0, 4.0]])).tolist()
        [[1.0, 2.5, 2.5, 4.0]]
    """
    size = rows.shape[1]
    sums = torch.nn.functional.pad(rows.cumsum(1), (1, 0))
    place = torch.arange(size, device=rows.device)
    count = (place - place.unsqueeze(1) + 1).clamp(min=1)
    found = []
    for some in sums.split(max(1, chunk // size**2)):
        means = (some[:, None, 1:] - some[:, :-1, None]) / count  # from a to b
        means = means.masked_fill(place < place.unsqueeze(1), torch.inf)
        least = means.flip(2).cummin(2).values.flip(2)  # over ends from b on
        reached = torch.where(place >= place.unsqueeze(1), least, -torch.inf)
        found.append(reached.amax(1))
    return torch.cat(found) if found else rows
