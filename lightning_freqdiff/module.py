"""The LightningModule: train a score model on series, sample from it in the predict loop."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import torch
from jsonargparse import ArgumentError, ArgumentParser
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from lightning_freqdiff import __version__
from lightning_freqdiff.checkpoint import (
    MARK,
    calibration_path,
    file_hash,
    load_weights,
    read_calibration,
    read_checkpoint,
    translate,
    weights_hash,
)
from lightning_freqdiff.codec import COLOURS, NoiseColour
from lightning_freqdiff.components import as_settings
from lightning_freqdiff.condition import UNCONDITIONAL, ConditionSizes
from lightning_freqdiff.data import SeriesData
from lightning_freqdiff.diffusion.losses import (
    TimeDensity,
    Weighting,
    time_quantiles,
)
from lightning_freqdiff.diffusion.score import LINEAR, Covariance, Parametrization, Score, suitable
from lightning_freqdiff.diffusion.sde import SDE, VP
from lightning_freqdiff.domains import Domain, DomainName, Representation, domain_of
from lightning_freqdiff.logarithm import LOOKED, ORDERS, Logarithms, span
from lightning_freqdiff.networks import Architecture, UNet
from lightning_freqdiff.networks.recompute import recompute
from lightning_freqdiff.sampling import Sampling
from lightning_freqdiff.sharding import check_strategy, shard
from lightning_freqdiff.training_module import TrainingModule

STATISTICS_BATCH = 4096
"""Series transformed at once while the training statistics are taken, at most."""

STATISTICS_NUMBERS = 2**22
"""Numbers in those series, at most."""


class ScoreModule(TrainingModule):
    """Score-based diffusion of time series, by default on their half-spectrum.

    Args:
        network: Backbone.
        sde: Forward noising process.
        parametrization: What the network outputs: the unit-variance remainder of the Wiener filter of every
            coordinate (wiener) or of every step of time (steps, of networks that see time), the noise (eps), the
            clean signal (x0), or the score itself. If not given, steps where the network sees time and what varies at
            each step is known from a covariance, else wiener.
        weighting: Weighting of the loss: unit is EDM's, eps plain noise prediction, likelihood and fd the
            papers'. If not given, unit for steps and wiener and eps for the others.
        times: Density of the training times: uniform as in the papers, or lognormal in the noise-to-signal ratio
            as in EDM but wider, which learns faster. Validation is always uniform.
        domain: What is diffused: half-spectrum tokens (frequency), time steps (time, the papers' baseline), wavelet
            coefficients (wavelet) or those of a lapped cosine transform (lapped); or a Domain, whose settings can be
            chosen.
        colour: Colour of the noise: white (0), white in the data's own units, as in DDPM; equal (1), the same
            signal-to-noise ratio at every frequency or step, as in the papers of frequency diffusion; or between.
        covariance: Whether the covariance of all coordinates is used (joint), so that the network is shown the best
            linear prediction from all of them, and its own is corrected in the 16 leading directions once it is
            trained (``Refit``); where there are more than 2,048, that of each channel's. Or their variances alone
            (diagonal), as where those of all channels together hold more than 2,048² numbers, and for other
            parametrizations.
        logarithm: Of which channels the logarithm is learnt: of those that are positive and differ by orders of
            magnitude, as prices do (wide), of all (always), or of none (never). Samples are in the data's units.
        condition_dropout: Share of the training series that are not told their label, and of those not told their
            covariates, so that the model can be asked with and without.
        learning_rate: Peak learning rate of AdamW.
        weight_decay: Weight decay of AdamW.
        warmup: Share of the training over which the learning rate rises linearly; it then falls as a cosine to 0, by
            steps or, under a time limit, by the clock.
        compile: Compile the network with torch.compile: its layers for training, whole calls for sampling.
        recompute: Compute the features of every block again for its gradients, and do not keep them: training takes
            an eighth to a quarter more time, and a fraction of the memory.
        observe: Share of the training series of which values at some places are told, so that the model learns to
            fill gaps and to forecast; 0.8 is a good one. At 0 it does so all the same, by the linear model's word.
        shape: Steps and channels of a series. Taken from the data set; a checkpoint carries it.
        conditions: What the model may be told of a series. Taken from the data set; a checkpoint carries it.

    Attributes:
        sampling: How many samples ``predict`` draws, and how; set it as you like.
    """

    def __init__(
        self,
        network: Architecture = UNet(),
        sde: SDE = VP(),
        parametrization: Parametrization | None = None,
        weighting: Weighting | None = None,
        times: TimeDensity = "lognormal",
        domain: DomainName | Domain = "frequency",
        colour: NoiseColour | float = "white",
        covariance: Covariance = "joint",
        logarithm: Logarithms = "wide",
        condition_dropout: float = 0.1,
        learning_rate: float = 3e-3,
        weight_decay: float = 0.01,
        warmup: float = 0.05,
        compile: bool = False,
        recompute: bool = False,
        observe: float = 0.0,
        shape: tuple[int, int] | None = None,
        conditions: ConditionSizes = UNCONDITIONAL,
    ) -> None:
        super().__init__()
        if not learning_rate > 0 or not 0 <= warmup < 1:
            raise ValueError(
                f"expected learning_rate > 0 and warmup in [0, 1), got {learning_rate} and {warmup}: "
                "set `model.learning_rate`, `model.warmup`"
            )
        if not 0 <= observe <= 1:
            raise ValueError(f"expected a share from 0 to 1 to observe, got {observe}: set `model.observe`")
        if not 0 <= condition_dropout < 1:
            raise ValueError(
                f"expected condition_dropout in [0, 1), got {condition_dropout}: set `model.condition_dropout`"
            )
        self.architecture, self.sde, self.observe = network, sde, observe
        self.compile_network, self.recompute = compile, recompute
        self.parametrization: Parametrization | None = parametrization
        self.weighting: Weighting = weighting or ("unit" if parametrization in (None, *LINEAR) else "eps")
        self.domain = domain_of(domain)
        self.colour = COLOURS[colour] if isinstance(colour, str) else float(colour)
        self.covariance: Covariance = covariance
        self.logarithm: Logarithms = logarithm
        self.condition_dropout = condition_dropout
        self.learning_rate, self.weight_decay, self.warmup = learning_rate, weight_decay, warmup
        self.register_buffer("training_times", time_quantiles(sde, times), persistent=False)
        self.register_buffer("validation_times", time_quantiles(sde, "uniform"), persistent=False)
        self.sampling = Sampling()
        self.data_facts: dict[str, Any] = {}
        self.checkpoint_hash: str | None = None
        self.save_hyperparameters(
            {
                "network": as_settings(network),
                "sde": as_settings(sde),
                "parametrization": parametrization,
                "weighting": weighting,
                "times": times,
                "domain": as_settings(domain) if isinstance(domain, Domain) else domain,
                "colour": colour,
                "covariance": covariance,
                "logarithm": logarithm,
                "condition_dropout": condition_dropout,
                "learning_rate": learning_rate,
                "weight_decay": weight_decay,
                "warmup": warmup,
                "compile": compile,
                "recompute": recompute,
                "observe": observe,
                "shape": list(shape) if shape else None,
                "conditions": asdict(conditions),
            }
        )
        self.score: Score = cast(Score, None)
        if shape is not None:
            self._build(*shape, conditions)

    def _build(self, length: int, channels: int, conditions: ConditionSizes) -> None:
        """Make the parts that need the data's shape."""
        conditions = replace(conditions, observed=conditions.observed or self.observe > 0)
        layout = Representation(self.domain, length, channels)
        self.parametrization = form = self.parametrization or suitable(self.architecture, layout, self.covariance)
        self.score = Score(self.architecture, self.sde, form, layout, conditions, self.colour, self.covariance)
        built = {"parametrization": form, "shape": [length, channels], "conditions": asdict(conditions)}
        self.save_hyperparameters(built)  # which is what loggers are told
        self.score.network.compiled = self.compile_network
        if self.recompute:
            recompute(self.score.network.parts)

    def configure_model(self) -> None:
        """Build the model, once, and share its weights out over the devices where the strategy says so."""
        if self._trainer is not None:
            check_strategy(self.trainer)
        self.build()
        if self._device_mesh is not None:
            shard(self.score.network, self._device_mesh)

    def build(self) -> None:
        """Build the network for the data's shape and take the training statistics, where that is not done."""
        precision = "32-true" if self._trainer is None else str(self._trainer.precision)
        if precision in ("16-true", "bf16-true"):
            raise ValueError(
                f"expected a precision in which transforms and noise keep their digits, got {precision}: set "
                "`trainer.precision` bf16-mixed, 32-true or 64-true"
            )
        if self.score is not None:
            return
        data = getattr(self._trainer, "datamodule", None)
        if not isinstance(data, SeriesData):
            raise ValueError(
                "expected a SeriesData module to learn the shape and the statistics from, got "
                f"{type(data).__name__}: pass `data`, or a checkpoint by `ckpt_path`"
            )
        length, channels = data.shape
        self._build(length, channels, data.conditions)
        self._take_logarithms(data)
        size = min(STATISTICS_BATCH, max(1, STATISTICS_NUMBERS // (length * channels)))
        ranks = self.trainer.world_size if data.streamed else 1
        if ranks > 1:
            share = self.trainer.global_rank, ranks
            self.score.codec.fit(data.train_batches(size, *share), self._over_ranks)
        else:  # every rank streams all of them, so that all have the same figures without a word between them
            self.score.codec.fit(data.train_batches(size))
        self.data_facts = {"channels": list(data.channels), "num_train": data.num_train, "format": data.format}
        if data.frame is not None:
            self.data_facts["frame"] = data.frame
        if data.vocabulary:
            self.data_facts |= {"vocabulary": data.vocabulary.as_dict(), "examples": data.examples().parts}

    def _take_logarithms(self, data: SeriesData) -> None:
        """Find out of which channels the logarithm is learnt, from some series, and if there are any from all."""
        if self.logarithm == "never":
            return
        learnt, some = self.score.codec.logarithm, max(1, LOOKED // math.prod(data.shape))
        wide = span(_with_gaps(data, some)) > ORDERS
        if self.logarithm == "wide" and not wide.any():
            return
        series = _with_gaps(data)
        least = torch.where(series.isfinite(), series, torch.inf).amin((0, 1))
        if self.logarithm == "always":
            wide = torch.ones_like(wide)
            learnt.take(wide, least)
            learnt.expect_positive(series, series.isfinite(), "set `model.logarithm` wide or never")
        wide &= least > 0
        learnt.take(wide, least)
        names = ", ".join(name for name, taken in zip(data.channels, wide.tolist(), strict=True) if taken)
        if names:
            rank_zero_info(f"learning the logarithm of {names}; `model.logarithm` never learns values as they are")

    def _over_ranks(self, x: Tensor) -> Tensor:
        """Add up a tensor over all ranks; where they talk by NCCL, that takes a GPU's memory."""
        strategy = self.trainer.strategy
        return cast(Tensor, strategy.reduce(x.clone().to(strategy.root_device), reduce_op="sum")).to(x.device)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Mark the checkpoint as ours and note what it was trained on, and how well."""
        gain = self.trainer.callback_metrics.get("val_gain")
        known = {} if gain is None else {"val_gain": float(gain)}
        checkpoint[MARK] = {"version": __version__, **self.data_facts, **known}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take over the notes on the training data, and names that an older version gave."""
        translate(checkpoint)
        before = checkpoint.get("hyper_parameters", {}).get("parametrization", self.parametrization)
        if before != self.parametrization:
            raise ValueError(
                f"expected {before}, as the checkpoint was trained, got {self.parametrization}: set "
                f"`model.parametrization` {before}"
            )
        self.data_facts = {k: v for k, v in checkpoint.get(MARK, {}).items() if k != "version"}

    @classmethod
    def load_from_checkpoint(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls, checkpoint_path: str | Path, map_location: Any = None, **settings: Any
    ) -> ScoreModule:
        """Load a model from a checkpoint alone; only tensors and plain settings are read from it.

        Args:
            checkpoint_path: A checkpoint made by this module.
            map_location: Device to put the model on.
            **settings: Constructor arguments that replace those in the checkpoint, such as ``compile``.

        Raises:
            FileNotFoundError: Where there is no such file.
            ValueError: For a file that is not a whole checkpoint of this project, or whose settings or weights are of
                no use.
        """
        model = cls.restore(read_checkpoint(checkpoint_path), checkpoint_path, **settings)
        model.checkpoint_hash = file_hash(checkpoint_path)
        fitted = calibration_path(checkpoint_path)
        if fitted.is_file():
            model.score.calibration = read_calibration(fitted, weights_hash(model))
        return model if map_location is None else model.to(map_location)

    @classmethod
    def restore(cls, checkpoint: dict[str, Any], source: str | Path, **settings: Any) -> ScoreModule:
        """Make a model from what a checkpoint holds: its settings, weights and notes on the training data.

        Args:
            checkpoint: As :func:`~lightning_freqdiff.checkpoint.read_checkpoint` returns it.
            source: Where it is from, for errors.
            **settings: Constructor arguments that replace those in the checkpoint.
        """
        parser = ArgumentParser(exit_on_error=False)
        parser.add_class_arguments(cls, "model")
        try:
            parsed = parser.parse_object({"model": {**checkpoint["hyper_parameters"], **settings}})
        except ArgumentError as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(
                f"expected settings that this version knows in {source}, got others ({reason}): set `ckpt_path` to "
                "another one, or install what it was made with"
            ) from error
        model: ScoreModule = parser.instantiate(parsed)["model"]
        load_weights(model, checkpoint, source)
        model.on_load_checkpoint(checkpoint)
        return model.eval()


def _with_gaps(data: SeriesData, limit: int | None = None) -> Tensor:
    """Return training series, all or so many, with NaN where a value was not observed."""
    series, seen = data.reference_series(limit), data.reference_seen(limit)
    return series if seen is None else torch.where(seen > 0, series, torch.nan)
