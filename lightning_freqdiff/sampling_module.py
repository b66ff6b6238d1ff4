"""The predict loop of a score model: work units in, samples out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_freqdiff.checkpoint import DISTILLED
from lightning_freqdiff.diffusion.score import Score
from lightning_freqdiff.diffusion.score_function import ScoreFunction
from lightning_freqdiff.diffusion.sde import SDE
from lightning_freqdiff.domains import Representation
from lightning_freqdiff.hooks import SamplingCallback
from lightning_freqdiff.sampling import InTurn, Sampling, WorkUnit, sample
from lightning_freqdiff.sampling.batches import unit_loader
from lightning_freqdiff.sampling.solvers import Fitted, ParallelSolver
from lightning_freqdiff.vocabulary import Examples, Vocabulary


class SamplingModule(LightningModule):
    """Samples from a score; callbacks of the trainer may put another function in its place, or watch.

    Attributes:
        sde: Forward noising process.
        score: Score of the noised tokens.
        sampling: How many samples ``predict`` draws, and how; set it as you like.
        data_facts: What is noted of the training data: their channels, and what the model can be told.
    """

    sde: SDE
    score: Score
    sampling: Sampling
    data_facts: dict[str, Any]

    @property
    def layout(self) -> Representation:
        """Layout of the tokens, and with it the shape of a series."""
        return self.score.codec.layout

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels, from the training data or made up."""
        default = [f"channel_{m}" for m in range(self.layout.channels)]
        return tuple(self.data_facts.get("channels") or default)

    @property
    def vocabulary(self) -> Vocabulary:
        """Names and units, in the training data, of what the model can be told."""
        return Vocabulary.from_dict(self.data_facts.get("vocabulary", {}))

    def _hooks(self) -> list[SamplingCallback]:
        callbacks = [] if self._trainer is None else self._trainer.callbacks  # pyright: ignore
        return [callback for callback in callbacks if isinstance(callback, SamplingCallback)]

    @property
    def score_function(self) -> ScoreFunction:
        """What sampling asks: the model's own score, or what a callback puts in its place.

        Raises:
            ValueError: Where several callbacks do.
        """
        found = [(hook, score) for hook in self._hooks() if (score := hook.score_function()) is not None]
        if len(found) > 1:
            names = " and ".join(type(hook).__name__ for hook, _ in found)
            raise ValueError(f"expected at most one cache, got {names}: remove one from `trainer.callbacks`")
        return found[0][1] if found else self.score

    def as_trained(self, sampling: Sampling) -> Sampling:
        """Tell samples in turn what training series were told, where nothing else is said; for those who measure."""
        if sampling.condition is not None or "examples" not in self.data_facts:
            return sampling
        return replace(sampling, condition=InTurn(Examples(self.data_facts["examples"]).condition))

    def said(self, sampling: Sampling) -> Sampling:
        """Return a sampling whose conditions are in the model's numbers, whatever words they were given in."""
        known = sampling.condition
        return sampling if known is None else replace(sampling, condition=known.said_in(self.vocabulary))

    def check(self, sampling: Sampling) -> None:
        """Refuse a sampling that this model cannot do, before anything is drawn.

        Raises:
            ValueError: For a grid that is not there, a label that the model never saw, a table with other rows than
                there are samples, or other calls than a model was distilled into.
        """
        calls = self.data_facts.get(DISTILLED)
        if calls is not None and (not isinstance(sampling.solver, Fitted) or sampling.num_steps != calls):
            raise ValueError(
                f"expected {calls} steps of Fitted, which the model was distilled into, got {sampling.num_steps} of "
                f"{type(sampling.solver).__name__}: set `sampling.solver` Fitted and `sampling.num_steps` {calls}"
            )
        self.times(sampling)
        known, said = sampling.condition, self.said(sampling).condition
        if known is None or said is None:
            return
        if known.count is not None and known.count != sampling.num_samples:
            raise ValueError(
                f"expected a row of conditions for each of {sampling.num_samples} samples, got {known.count}: set "
                f"`sampling.num_samples` {known.count}, or `sampling.condition`"
            )
        first = said.rows(0, 1)
        self.score.sizes.check(first)
        if first.covariates is not None and first.covariates.shape[1] != self.layout.length:
            raise ValueError(
                f"expected covariates at {self.layout.length} steps of each sample, got {first.covariates.shape[1]}: "
                "set `sampling.condition`"
            )

    def on_predict_start(self) -> None:
        """Refuse two caches, and what cannot be sampled, before anything is drawn."""
        _ = self.score_function
        self.check(self.sampling)
        solver = self.sampling.solver
        if self.trainer.world_size > 1 and isinstance(solver, ParallelSolver) and solver.over_ranks:
            raise ValueError(
                "expected one process, as each of several draws samples of its own and no calls of another, got "
                f"{self.trainer.world_size}: set `sampling.solver.over_ranks` false or `trainer.devices` 1"
            )

    def predict_dataloader(self) -> DataLoader[WorkUnit]:
        """Return the work units of :attr:`sampling`, or those that a writer says are left to do."""
        left = [(units, hook) for hook in self._hooks() if (units := hook.remaining(self.sampling)) is not None]
        units, hook = left[0] if left else (self.sampling.units(), SamplingCallback())
        return unit_loader(units, self.trainer.world_size, self.global_rank, hook.turn)

    def predict_step(self, unit: WorkUnit, batch_idx: int) -> Tensor:
        """Draw the samples of a work unit, ``(count, N, M)`` in the data's units, float32."""
        return self.draw(unit, self.sampling, self.score_function, self._tell)

    def draw(
        self,
        unit: WorkUnit,
        sampling: Sampling,
        score: ScoreFunction | None = None,
        on_step: Callable[[int], None] | None = None,
    ) -> Tensor:
        """Draw the samples of a work unit.

        Args:
            unit: Which samples.
            sampling: How.
            score: What is asked; the model's own score if not given.
            on_step: Called with the number of each step.

        Returns:
            Series ``(count, N, M)`` in the data's units, float32.
        """
        if unit.count == 0:
            return torch.empty(0, self.layout.length, self.layout.channels, device=self.device)
        sampling = self.said(sampling)
        z = sample(score or self.score, self.sde, self.score.codec, unit, sampling, on_step)
        series = self.score.codec.decode(z)
        return sampling.finish(self.score.codec.limits(series) if sampling.limited else series, unit)

    def times(self, sampling: Sampling) -> Tensor:
        """Return the times ``(num_steps + 1,)`` that the steps of a sampling are between."""
        return sampling.solver.times(self.sde, sampling.num_steps, sampling.grid, self.score.calibration)

    def _tell(self, step: int) -> None:
        for hook in self._hooks():
            hook.on_sampling_step(step)
