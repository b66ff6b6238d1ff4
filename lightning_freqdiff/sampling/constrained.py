"""Series that keep to rules, at every step and exactly at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from lightning_freqdiff.codec import Codec
from lightning_freqdiff.components import as_settings
from lightning_freqdiff.condition import Condition
from lightning_freqdiff.conditional import Block, Known, gaussian_of
from lightning_freqdiff.diffusion.sde import SDE
from lightning_freqdiff.sampling.constraints import Constraint, Steering
from lightning_freqdiff.sampling.observed import Estimate, OnEstimate
from lightning_freqdiff.sampling.rules import Equation, Rule, Shape
from lightning_freqdiff.sampling.solvers import Level

ROUNDS = 500
"""Projections in turn at the end, at most."""
CLOSE = 1e-6
"""What is taken for rounding, as a share of the deviation of the series."""

Penalty = Callable[[Tensor], Tensor]
"""A function of series ``(B, N, M)`` that is 0 where they are as they should be, and greater elsewhere, ``(B,)``."""


@dataclass(frozen=True)
class Constrained(Constraint):
    """Keep to rules: at every step by the network's clean estimate, and exactly at the end.

    Equations are told to the linear model as observed values are (``GaussianPosterior``), together with those that
    are, so that where data are Gaussian samples follow the exact conditional law. Of shapes, the nearest series is
    taken, in the data's own metric (that of white noise). A projection of the noisy series themselves (as by
    Christopher et al., arXiv 2402.03559) would hold noise to rules that are about series.

    Args:
        rules: Rules by name, and functions of series ``(B, N, M)``, ``(B,)``, whose gradient the estimate is moved
            against.
        strength: Share of the way that an estimate is moved. At 1 rules are hard, and hold exactly at the end; below
            they are soft.
        weight: How far a step along a function's gradient goes, over the deviation of the series.
    """

    keeps_limits: ClassVar[bool] = False
    rules: Sequence[Rule | Penalty] = ()
    strength: float = 1.0
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.strength <= 1:
            raise ValueError(
                f"expected a strength above 0, up to 1, got {self.strength}: set `sampling.constraint.strength`"
            )
        if not self.rules:
            raise ValueError("expected a rule at least, got none: set `sampling.constraint.rules`")
        for rule in self.rules:
            missing = isinstance(rule, Rule) and any(value != value for value in vars(rule).values())
            if missing or not (isinstance(rule, Rule) or callable(rule)):
                raise ValueError(
                    f"expected rules, of numbers, and functions of series, got {rule!r}: set "
                    "`sampling.constraint.rules`"
                )

    def begin(self, codec: Codec, sde: SDE, condition: Condition) -> Constraint:
        """Return what moves the estimates, once it is seen that the rules can hold."""
        learnt = replace(self, rules=[part for rule in self.rules for part in _learnt(rule, codec)])
        if self.strength == 1:
            typical = codec.layout.decode(codec.mean.unsqueeze(0)).expand(condition.count or 1, -1, -1)
            learnt._settle(typical, condition)
        return _Steering(codec, sde, learnt, condition)

    def finish(self, series: Tensor, condition: Condition) -> Tensor:
        """Return the series with every rule obeyed."""
        return series if self.strength < 1 else self._settle(series, condition)

    def apply(self, z: Tensor, level: Level, condition: Condition, codec: Codec, noise: Tensor) -> Tensor:
        """Leave tokens as they are."""
        return z

    def equations(self, length: int, channels: int) -> tuple[Tensor, Tensor]:
        """Return all equations of the rules, ``(k, N * M)`` and ``(k,)``, float64."""
        found = [rule.equations(length, channels) for rule in self.rules if isinstance(rule, Equation)]
        none = torch.zeros(0, length * channels, dtype=torch.float64), torch.zeros(0, dtype=torch.float64)
        weights, values = zip(none, *found, strict=True)
        return torch.cat(weights), torch.cat(values)

    def settings(self) -> dict[str, Any]:
        """Return what identifies the rules, as plain values."""
        named = [
            as_settings(rule) if isinstance(rule, Rule) else getattr(rule, "__qualname__", type(rule).__name__)
            for rule in self.rules
        ]
        return {"rules": named, "strength": self.strength, "weight": self.weight}

    @property
    def shapes(self) -> list[Shape]:
        """The rules that are shapes."""
        return [rule for rule in self.rules if isinstance(rule, Shape)]

    def _settle(self, series: Tensor, condition: Condition) -> Tensor:
        """Project on all rules in turn until they hold, leaving observed values as they are."""
        x = condition.fill(series).double()
        free = torch.ones_like(x) if condition.mask is None else (condition.mask <= 0).double()
        weights, values = (part.to(x.device) for part in self.equations(*x.shape[1:]))
        inner = torch.linalg.pinv((weights * free.flatten(1).unsqueeze(1)) @ weights.T) if len(weights) else None
        size = max(float(x.std(correction=0)), float(x.abs().mean()), 1e-12)
        for _ in range(ROUNDS):
            before = x
            for shape in self.shapes:
                x = torch.where(free > 0, shape.project(x), x)
            if inner is not None:
                lack = values - x.flatten(1) @ weights.T
                x = x + ((inner @ lack.unsqueeze(2)).squeeze(2) @ weights).view_as(x) * free
            if float((x - before).abs().max()) <= CLOSE * size:
                break
        self._expect_obeyed(x, weights, values, size)
        return condition.fill(x.to(series.dtype))

    def _expect_obeyed(self, x: Tensor, weights: Tensor, values: Tensor, size: float) -> None:
        """Refuse series of which no change made them obey."""
        off = {type(s).__name__: float((s.project(x) - x).abs().max()) for s in self.shapes}
        if len(weights):
            missed = (values - x.flatten(1) @ weights.T).abs() / weights.abs().sum(1).clamp(min=1)
            off["equations"] = float(missed.max())
        if wrong := [name for name, far in off.items() if far > 1e-3 * size]:
            raise ValueError(
                f"expected rules that can hold together with each other and with what is observed, got some that "
                f"contradict ({', '.join(wrong)}): set `sampling.constraint.rules`"
            )


class _Steering(OnEstimate, Steering):
    """The guidance of a trajectory that keeps to rules."""

    strength = "constraint.weight"

    def __init__(self, codec: Codec, sde: SDE, settings: Constrained, condition: Condition) -> None:
        super().__init__(codec, sde)
        self.settings, self.gaussian = settings, gaussian_of(codec)
        weights, values = settings.equations(codec.layout.length, codec.layout.channels)
        self.values = values.to(self.gaussian.mean)
        self.weights = weights.to(self.gaussian.mean)
        self.mask = None if condition.mask is None else condition.mask.flatten(1) > 0
        self.known: Known | None = None

    def apply(self, z: Tensor, level: Level, condition: Condition, codec: Codec, noise: Tensor) -> Tensor:
        """Leave noisy tokens as they are."""
        return z

    def move(self, estimate: Estimate, condition: Condition) -> Tensor:
        """Move by what the equations say, then to the shapes, then against the gradient of functions."""
        rows = estimate.rows

        def left(block: Block) -> Tensor:
            return block.left(estimate.alpha, estimate.sigma)

        found = rows.to(self.gaussian.dtype)
        if len(self.weights):
            self.known = self.known or Known(self.gaussian, self.mask, self.weights, len(rows))
            lack = self.values - (self.gaussian.mean + self.gaussian.series(found)) @ self.weights.T
            if self.known.mask is not None and condition.observed is not None:
                lack = torch.cat([self.known.lack(found, condition.observed), lack], dim=1)
            found = found + self.known.move(lack, left)
        series = (self.gaussian.mean + self.gaussian.series(found)).view(len(rows), *_shape(self.codec))
        nearest = series
        for shape in self.settings.shapes:
            nearest = shape.project(nearest)
        found = found + self.gaussian.whitened((nearest - series).flatten(1))
        for rule in self.settings.rules:
            if not isinstance(rule, Rule):
                found = found + self._descend(rule, nearest, left)
        return self.settings.strength * (found - rows)

    def _descend(self, penalty: Penalty, series: Tensor, left: Callable[[Block], Tensor]) -> Tensor:
        """Return a step against a penalty's gradient, as far as numbers are not known yet and go together."""
        # Lightning predicts in inference mode, whose tensors no gradient goes through; copies are like any other.
        with torch.inference_mode(False), torch.enable_grad():
            x = series.to(torch.float32, copy=True).requires_grad_()
            (gradient,) = torch.autograd.grad(penalty(x).sum(), x)
        slope = gradient.flatten(1).to(self.gaussian.dtype)
        step = self.gaussian.spread_out(slope, left)
        norm = self.gaussian.series(step).norm(dim=1, keepdim=True) / slope.shape[1] ** 0.5
        most = self.settings.weight * self.gaussian.deviation
        return -step * (most / norm.clamp(min=1e-12)).clamp(max=self.settings.weight)


def _learnt(rule: Rule | Penalty, codec: Codec) -> Sequence[Rule | Penalty]:
    """Return what a rule about series says about what is learnt of them."""
    if isinstance(rule, Rule):
        return rule.of_logarithms(codec.logarithm.channels, codec.layout.channels)
    return [lambda learnt: rule(codec.logarithm.back(learnt))] if codec.logarithm.channels else [rule]


def _shape(codec: Codec) -> tuple[int, int]:
    return codec.layout.length, codec.layout.channels
