"""The one callback behind every cache: it attaches a policy to the score function, and takes it off again."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor

from lightning_freqdiff.caching import CachedScore, CachePolicy, Ledger
from lightning_freqdiff.caching.presets import Presets
from lightning_freqdiff.components import as_settings
from lightning_freqdiff.diffusion import Score, ScoreFunction
from lightning_freqdiff.hooks import SamplingCallback
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.sampling import Sampling


class CacheCallback(SamplingCallback):
    """Sample through a cache policy. Solvers and module never know.

    Args:
        policy: When to run how much of the network.
    """

    def __init__(self, policy: CachePolicy) -> None:
        self.policy = policy
        self._cached: CachedScore | None = None
        self._ledger: Ledger | None = None
        self._memory = 0
        self._earlier: Tensor | None = None

    @contextmanager
    def around(self, score: Score, sampling: Sampling) -> Iterator[CachedScore]:
        """Put the policy between solver and network for the samplings inside a ``with`` block."""
        cached = self._attach(score, sampling)
        try:
            yield cached
        finally:
            self._detach()

    def _attach(self, score: Score, sampling: Sampling) -> CachedScore:
        if self._cached is not None:
            raise ValueError(f"expected {type(self).__name__} to be in use once at a time, but it is in use already")
        self._cached = CachedScore(score, self.policy, sampling.num_calls)
        self._ledger = self._cached.ledger
        return self._cached

    def _detach(self) -> None:
        if self._cached is not None:
            self._memory = max(self._memory, self._cached.memory())
            self._cached = None

    def score_function(self) -> ScoreFunction | None:
        """Return the cached score, while samples are drawn."""
        return self._cached

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Attach."""
        assert isinstance(pl_module, ScoreModule)
        self._attach(pl_module.score, pl_module.sampling)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Note how much memory the cache held."""
        if self._cached is not None:
            self._memory = max(self._memory, self._cached.memory())

    def collect(self, trainer: Trainer) -> None:
        """Add up what all ranks saw, now and in earlier starts, so that the report is about the whole run."""
        assert self._ledger is not None
        self._ledger.sums = trainer.strategy.reduce(self._ledger.sums, reduce_op="sum")
        self._add_earlier()

    def state(self) -> dict[str, np.ndarray]:
        """Return the ledger's sums, and the memory held."""
        if self._cached is None:
            return {}
        self._memory = max(self._memory, self._cached.memory())
        return {"sums": self._cached.ledger.sums.clone().cpu().numpy(), "memory": np.array(self._memory)}

    def take_up(self, module: LightningModule, earlier: list[dict[str, np.ndarray]]) -> None:
        """Remember the sums of earlier starts; with nothing left to do, they are the report."""
        assert isinstance(module, ScoreModule)
        calls, scale = module.sampling.num_calls, module.score.noise_scale
        self._ledger, self._earlier = Ledger(calls, len(scale), scale.device), None
        self._memory = max([int(state["memory"]) for state in earlier], default=0)
        if earlier:
            self._earlier = torch.from_numpy(sum(state["sums"] for state in earlier))

    def _add_earlier(self) -> None:
        if self._ledger is not None and self._earlier is not None:
            self._ledger.sums = self._ledger.sums + self._earlier.to(self._ledger.sums)
            self._earlier = None

    def on_predict_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Detach, and say what was saved."""
        assert isinstance(pl_module, ScoreModule)
        self._detach()
        self.collect(trainer)
        assert self._ledger is not None
        if float(self._ledger.sums[:, 0].sum()) == 0:
            return  # nothing was left to do
        totals = self._ledger.totals()
        rank_zero_info(
            f"{type(self).__name__}: {totals['network_calls']:.1f} of {self._ledger.calls} network calls per sample, "
            f"hit rate {totals['hit_rate']:.1%}, {1 - totals['flops_fraction']:.1%} of the FLOPs saved"
        )
        if trainer.is_global_zero:
            self._warn(pl_module.sampling.solver.calls_per_step)

    def _warn(self, positions: int) -> None:
        """Warn of a trigger that decides nothing; each of the step's call positions is filled once in any case."""
        assert self._ledger is not None
        totals = self._ledger.totals()
        between = float(self._ledger.sums[positions:-positions, 1].sum())  # many caches compute the last step anyway
        if totals["flops_fraction"] >= 1:
            recomputed = (
                "every token was" if totals["hit_rate"] == 0 else f"{1 - totals['hit_rate']:.1%} of the tokens were"
            )
            warnings.warn(
                f"{type(self).__name__}: {recomputed} recomputed, at {totals['flops_fraction']:.2f} times the FLOPs "
                "of no cache, so that it only costs: raise its thresholds or lower its budget",
                stacklevel=2,
            )
        elif between == 0 and self._ledger.calls > 2 * positions:
            warnings.warn(
                f"{type(self).__name__}: nothing was recomputed after the first call, so the samples are those of a "
                "single network call: lower its thresholds or its interval",
                stacklevel=2,
            )

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Detach."""
        self._detach()

    def identity(self, sampling: Sampling) -> dict[str, Any]:
        """Return the policy's settings, those of its preset written out for so many steps."""
        written = as_settings(self.policy)
        if not isinstance(self.policy, Presets):
            return written
        return {**written, "init_args": vars(self.policy.settings_for(sampling.num_steps))}

    def report(self) -> dict[str, Any]:
        """Return totals and curves of the run; see :class:`~lightning_freqdiff.caching.Ledger`."""
        self._add_earlier()
        if self._ledger is None:
            return {}
        return {
            "cache": type(self.policy).__name__,
            **self._ledger.totals(),
            "memory_bytes": self._memory,
            "curves": self._ledger.curves(),
        }
