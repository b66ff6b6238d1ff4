"""CHORDS: several starts of one trajectory at once, of which the slower ones put the faster ones right."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_freqdiff.condition import Condition
from lightning_freqdiff.diffusion.score_function import ScoreFunction
from lightning_freqdiff.sampling.ranks import expect_same, over_ranks
from lightning_freqdiff.sampling.solvers.base import Ask, Level, ParallelSolver, Step
from lightning_freqdiff.sampling.solvers.ddim import DDIM

STARTS = (0.0, 0.04, 0.08, 0.16, 0.32, 0.48, 0.64, 0.8)
"""Where the published eight cores start: at steps 0, 2, 4, 8, 16, 24, 32 and 40 of 50."""


class Point(NamedTuple):
    """A call that was made: before which step, at which tokens, and the score there, ``(B, K, F)`` each."""

    at: int
    z: Tensor
    score: Tensor


@dataclass
class Core:
    """One of the solvers on their way.

    Args:
        at: Step that it is before.
        z: Its tokens there.
        begin: Call at its start, or where it was last put right; ``None`` until it has been made.
        last: Its last call.
    """

    at: int
    z: Tensor
    begin: Point | None = None
    last: Point | None = None


class Arrivals:
    """What has come to the end, where a sample that is settled stays as it is, whatever the others do.

    Args:
        residual: Distance between two arrivals, over the number of values, at which a sample is settled.
    """

    def __init__(self, residual: float | None) -> None:
        self.residual, self.count, self.found, self._latest = residual, 0, torch.empty(0), torch.empty(0)
        self._held: Tensor | None = None

    def take(self, z: Tensor) -> None:
        """Take an arrival ``(B, K, F)``."""
        held, before, self._latest, self.count = self._held, self._latest, z, self.count + 1
        self.found = z if held is None else torch.where(held.reshape(-1, 1, 1), self.found, z)
        if self.residual is not None and self.count > 1:
            apart = torch.linalg.vector_norm((z - before).flatten(1), dim=1) / z[0].numel()
            self._held = apart < self.residual if held is None else held | (apart < self.residual)

    @property
    def settled(self) -> bool:
        """Whether all samples are."""
        return self._held is not None and bool(self._held.all())


@dataclass(frozen=True)
class Chords(ParallelSolver):
    """DDIM without noise, by several cores at once (Han et al., "CHORDS", arXiv 2507.15260, algorithm 1).

    Core 0 goes all the way, step by step. The others start further on, each from one long step of the core before,
    and go on at the same pace. Where a core comes to the place where the next one started, that one is put right by
    ``Φ(own, next step) - Φ(its start, next step) + Φ(core before, next step)``, where ``Φ`` is a step from a call,
    however long. The one that starts furthest on arrives first; with the last, all is DDIM's to the last bit.

    The calls of a round are made as one larger batch, which costs a GPU that is not busy no more than one: fewer
    rounds, and more calls in all (see :meth:`rounds` and :meth:`calls`). With ``over_ranks`` they are shared out
    over the processes of ``torch.distributed`` instead, all of which have to draw the same samples.

    Args:
        starts: Where each core starts, as a share of the steps: 0, and on.
        arrivals: Core whose arrival is the end, counted as they arrive; with as many as there are starts it is DDIM.
        residual: End before that, with two arrivals in a row (the first is a long step of the last core) whose
            distance, over the number of values, is less; published is 4e-4. Counts are then the most there can be.
        over_ranks: Share out calls over processes.
    """

    starts: tuple[float, ...] = STARTS
    arrivals: int = 1
    residual: float | None = None
    over_ranks: bool = False

    def __post_init__(self) -> None:
        rises = all(a < b for a, b in zip(self.starts[:-1], self.starts[1:], strict=True))
        if not self.starts or self.starts[0] != 0 or not rises or not self.starts[-1] < 1:
            raise ValueError(
                f"expected starts that rise from 0 to less than 1, got {list(self.starts)}: set "
                "`sampling.solver.starts`"
            )
        if not 1 <= self.arrivals <= len(self.starts):
            raise ValueError(
                f"expected arrivals from 1 to the {len(self.starts)} starts, got {self.arrivals}: set "
                "`sampling.solver.arrivals`"
            )
        if self.residual is not None and not 0 < self.residual < math.inf:
            raise ValueError(f"expected residual above 0, got {self.residual}: set `sampling.solver.residual`")

    def places(self, num_steps: int) -> list[int]:
        """Return the steps that the cores start before; of several that fall together, one."""
        return sorted({min(round(share * num_steps), num_steps - 1) for share in self.starts})

    def rounds(self, num_steps: int) -> int:
        """Return how many calls there are one after the other."""
        arriving = sorted(core + num_steps - place for core, place in enumerate(self.places(num_steps)))
        return arriving[min(self.arrivals, len(arriving)) - 1]

    def calls(self, num_steps: int) -> int:
        """Return how many calls there are in all."""
        last = self.rounds(num_steps)
        return sum(min(last - core, num_steps - place) for core, place in enumerate(self.places(num_steps)))

    def step(
        self, score: Ask, z: Tensor, step: Step, scale: Tensor, noises: list[Tensor], state: None
    ) -> tuple[Tensor, None]:
        """Step as DDIM does."""
        return DDIM().step(score, z, step, scale, noises, state)

    def at_once(
        self,
        score: ScoreFunction,
        z: Tensor,
        steps: Sequence[Step],
        scale: Tensor,
        condition: Condition,
        on_step: Callable[[int], None] | None = None,
    ) -> Tensor:
        """Run round after round until enough cores have arrived."""
        if self.over_ranks:
            expect_same(z)
        places, arrived = self.places(len(steps)), Arrivals(self.residual)
        levels = [step.now for step in steps] + [steps[-1].then]
        cores, started, wanted = [Core(0, z)], 1, min(self.arrivals, len(places))
        for number in range(len(steps)):
            self._ask(score, cores, levels, condition)
            ahead = None
            if started < len(places):
                ahead = Core(places[started], self._jump(cores[-1].last, places[started], levels, scale))
                started += 1
            elif not arrived.count:
                arrived.take(self._jump(cores[-1].last, len(steps), levels, scale))
            for before, core in zip([None, *cores], cores, strict=False):
                self._advance(core, before, levels, scale)
            done, cores = [c for c in cores if c.at == len(steps)], [c for c in cores if c.at < len(steps)]
            cores += [] if ahead is None else [ahead]
            for core in reversed(done):
                arrived.take(core.z)
                if arrived.count > wanted or arrived.settled:
                    if on_step is not None:
                        for left in range(number, len(steps)):
                            on_step(left)
                    return arrived.found
            if on_step is not None:
                on_step(number)
        raise AssertionError("core 0 arrives with the last step")

    def _ask(self, score: ScoreFunction, cores: list[Core], levels: list[Level], condition: Condition) -> None:
        """Make the calls of a round, one for each core, as one batch."""
        batch = torch.cat([core.z for core in cores])
        t = torch.stack([levels[core.at].t for core in cores]).repeat_interleave(len(cores[0].z))
        known = condition.repeat(len(cores))
        answers = over_ranks(score, batch, t, known) if self.over_ranks else score(batch, t, known)
        for core, answer in zip(cores, answers.chunk(len(cores)), strict=True):
            core.last = Point(core.at, core.z, answer)
            core.begin = core.begin or core.last

    def _advance(self, core: Core, before: Core | None, levels: list[Level], scale: Tensor) -> None:
        """Take a core a step further, and put it right where the one before has come to its start."""
        then = core.at + 1
        z = self._jump(core.last, then, levels, scale)
        assert core.begin is not None
        # The core before has been moved on already; its last call is that of this round.
        if before is not None and before.last is not None and before.last.at == core.begin.at:
            z = z - self._jump(core.begin, then, levels, scale) + self._jump(before.last, then, levels, scale)
            core.begin = None
        core.at, core.z = then, z

    def _jump(self, point: Point | None, to: int, levels: list[Level], scale: Tensor) -> Tensor:
        """Take a step of any length from a call."""
        assert point is not None
        step = Step(levels[point.at], levels[to], 0.0, to == len(levels) - 1)
        known = point.score
        return self.step(lambda *_: known, point.z, step, scale, [], None)[0]
