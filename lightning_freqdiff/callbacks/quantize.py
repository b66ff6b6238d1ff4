"""Sampling with a network in integers of few bits."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from lightning_freqdiff.hooks import SamplingCallback
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.networks.low_bit import Bits, in_low_bits
from lightning_freqdiff.sampling import Sampling


class Quantize(SamplingCallback):
    """Sample with the layers between embedding and head in integers: inputs of eight bits, weights of eight or four.

    The ranges of inputs are fitted by `calibrate`. Any cache may be plugged in beside it.

    Args:
        weights: Bits of a weight.
    """

    def __init__(self, weights: Bits = 8) -> None:
        if weights not in (4, 8):
            raise ValueError(f"expected weights of 4 or 8 bits, got {weights}: set `weights`")
        self.weights: Bits = weights
        self._entered = ExitStack()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put integers in place."""
        assert isinstance(pl_module, ScoreModule)
        score = pl_module.score
        self._entered.enter_context(in_low_bits(score.network, score.calibration, self.weights))

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the layers back."""
        self._entered.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Put the layers back."""
        self._entered.close()

    def identity(self, sampling: Sampling) -> dict[str, Any]:
        """Return the bits."""
        return {"class_path": type(self).__name__, "init_args": {"weights": self.weights}}
