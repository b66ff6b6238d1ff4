"""The command line: where everything meets."""

from __future__ import annotations

import logging
import re
import sys
import time
import warnings
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NoReturn

import torch
from jsonargparse import Namespace
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, EMAWeightAveraging, ModelCheckpoint, ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from lightning_freqdiff.callbacks import (
    FiniteLoss,
    RunReport,
    SafeCheckpoints,
    SampleWriter,
    SamplingProgress,
    TrainingProgress,
    Validations,
)
from lightning_freqdiff.callbacks.run_config import RunConfig
from lightning_freqdiff.callbacks.table import Format, check_format
from lightning_freqdiff.callbacks.verdict import verdict
from lightning_freqdiff.checkpoint import read_checkpoint
from lightning_freqdiff.cli.commands import STUDIES, add_matmul_precision, build_parser
from lightning_freqdiff.cli.errors import spell, spell_warnings
from lightning_freqdiff.data import SeriesData
from lightning_freqdiff.diffusion.sde import SDE
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.networks import Architecture
from lightning_freqdiff.sampling import Conditions, Sampling
from lightning_freqdiff.sampling.constraints import Constraint
from lightning_freqdiff.sampling.guidance import Guidance
from lightning_freqdiff.sampling.solvers import Solver

FIT_STEPS = 700
"""Steps of a run that nothing else is said of: under three minutes of the default network on two CPU cores."""

FIT_DEFAULTS: dict[str, Any] = {
    "data": {"class_path": "lightning_freqdiff.data.SyntheticECG"},
    "trainer.gradient_clip_val": 1.0,
    "trainer.log_every_n_steps": 20,
    "trainer.num_sanity_val_steps": 0,
    "trainer.enable_model_summary": False,
    "trainer.logger": {
        "class_path": "lightning.pytorch.loggers.CSVLogger",
        "init_args": {"save_dir": "runs", "name": "fit"},
    },
    "ema.decay": 0.995,
    "checkpoint.monitor": "val_loss",
    "checkpoint.filename": "best",
    "checkpoint.save_last": True,
    "checkpoint.enable_version_counter": False,
    "early_stopping": {
        "class_path": "lightning.pytorch.callbacks.EarlyStopping",
        "init_args": {"monitor": "val_loss", "patience": 6, "check_on_train_epoch_end": False},
    },
}
"""What `fit` does with no other word."""

RUN_DEFAULTS: dict[str, Any] = {
    "trainer.logger": False,
    "trainer.enable_checkpointing": False,
    "trainer.enable_model_summary": False,
}
"""What a run on a finished model does: leave nothing behind but what was asked for."""

COMMANDS = {
    "fit": f"Train a model; with no other word, a small one on embedded heartbeats for {FIT_STEPS} steps.",
    "validate": "Report the loss of a checkpoint on the validation part of a data set.",
    "test": "Measure a checkpoint against a data set: loss, distances, report page.",
    "predict": "Sample series from a checkpoint; no data set is read.",
}

CHECKPOINT_WORDS = ("best", "last", "hpc", "registry")
"""Words that Lightning understands in place of a checkpoint's path."""


@dataclass(frozen=True)
class SamplingRun(Sampling):
    """How many samples to draw, how, and where they go."""

    output: str = "samples"
    format: Format | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_format(self.format)


# What is drawn, and how, is said once, where it belongs.
SamplingRun.__doc__ = f"""{str(Sampling.__doc__).rstrip()}
        output: Folder for samples.npy, manifest.json and pictures; an interrupted run there is taken up again.
        format: Format of the samples: npy, npz, csv or parquet (long tables); if not given, a table where the model
            was trained on tables, else npy.
    """


class Parser(LightningArgumentParser):
    """The parser of LightningCLI with errors of one line that name the setting and the choices."""

    CHOICES: dict[str, type] = {  # noqa: RUF012
        "data": SeriesData,
        "network": Architecture,
        "sde": SDE,
        "solver": Solver,
        "condition": Conditions,
        "guidance": Guidance,
        "constraint": Constraint,
        "callbacks": Callback,
    }

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print one line and leave with exit code 2."""
        text = spell(" ".join(message.split()))
        named = re.match(rf"Parser key \"(?:(?:{'|'.join(COMMANDS)})\.)?([\w.]+)\": (.*)", text)
        if named:
            key, text = named.groups()
            base = self.CHOICES.get(key.rsplit(".", 1)[-1])
            unknown = re.search(r"Expected a dot import path string: (\S+)", text)
            if base and unknown:
                names = ", ".join(sorted(_concrete_names(base)))
                text = f"expected one of {names}, or a dotted path to your own class, got {unknown[1]}"
            given = [a.split("=")[0][2:] for a in sys.argv if re.match(rf"--[\w.]*\.{re.escape(key)}(=|$)", a)]
            problem = r"Problem with given class_path '[^']+': (.*?)(?: - Expected an? <class| Given value|$)"
            within = re.search(problem, text)
            text = f"--{(given or [key])[0]}: {within[1] if within else text}"
        refused = re.match(r"Option '(\w+)' is not accepted", text)
        if refused:
            given = [a.split("=")[0] for a in sys.argv if re.match(rf"--[\w.]*\.{refused[1]}(=|$)", a)]
            text = f"{' '.join(given) or refused[1]}: the class chosen has no such setting (is it named, as in "
            text += "--data ArrayData?)"
        self.exit(2, f"error: {text}\n")
        raise SystemExit(2)


def _concrete_names(base: type) -> set[str]:
    """Name the public subclasses of ``base`` that can be made."""
    below = {c.__name__ for c in base.__subclasses__() if not getattr(c, "__abstractmethods__", None)}
    return below.union(*(_concrete_names(c) for c in base.__subclasses__()))


class CLI(LightningCLI):
    """LightningCLI with OmegaConf, whose sampling needs a checkpoint and nothing else."""

    def __init__(self, args: list[str] | None = None) -> None:
        main: dict[str, Any] = {
            "parser_mode": "omegaconf",
            "prog": "python -m lightning_freqdiff",
            "description": "Train and sample diffusion models of time series in the frequency domain.",
        }
        below = {command: {"parser_mode": "omegaconf", "description": text} for command, text in COMMANDS.items()}
        super().__init__(
            ScoreModule,
            SeriesData,
            subclass_mode_data=True,
            save_config_callback=RunConfig,
            parser_class=Parser,
            parser_kwargs={**main, **below},
            seed_everything_default=0,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            args=args,
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Name the commands, and the arguments of Trainer's methods that are not options."""
        skip = {"model", "datamodule", "weights_only"}
        return {
            "fit": skip | {"train_dataloaders", "val_dataloaders"},
            "validate": skip | {"dataloaders"},
            "test": skip | {"dataloaders"},
            "predict": skip | {"dataloaders", "return_predictions"},
        }

    def _add_subcommands(self, parser: LightningArgumentParser, **kwargs: Any) -> None:
        """Add the commands under our own descriptions, in place of those of Trainer's methods."""
        self._subcommand_parsers = {}
        commands = parser.add_subcommands(description=None)
        for command, text in COMMANDS.items():
            self._subcommand_parsers[command] = self._prepare_subcommand_parser(Trainer, command, **kwargs[command])
            commands.add_subcommand(command, self._subcommand_parsers[command], help=text)
        for command, text in STUDIES.items():  # for the help: __main__ runs them by themselves
            commands.add_subcommand(command, build_parser(command, Parser), help=text)

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        if subcommand == "fit":
            parser.add_lightning_class_args(EMAWeightAveraging, "ema")  # pyright: ignore[reportArgumentType]
            parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")  # pyright: ignore[reportArgumentType]
            # Not as a callback of Lightning's parser, where null would not turn it off.
            parser.add_subclass_arguments(EarlyStopping, "early_stopping", required=False)
        parser.set_defaults(FIT_DEFAULTS if subcommand == "fit" else RUN_DEFAULTS)
        if subcommand == "test":
            parser.set_defaults({"sampling.output": "report"})  # not the folder of the samples that `predict` leaves
        return parser

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add trainer, model, data and sampling; no data set is required, since sampling needs none."""
        parser.add_lightning_class_args(Trainer, "trainer")  # pyright: ignore[reportArgumentType]
        parser.add_lightning_class_args(ScoreModule, "model")  # pyright: ignore[reportArgumentType]
        parser.add_lightning_class_args(
            SeriesData,  # pyright: ignore[reportArgumentType]
            "data",
            subclass_mode=True,
            required=False,
        )
        parser.add_class_arguments(SamplingRun, "sampling")
        add_matmul_precision(parser)

    def _parse_ckpt_path(self) -> None:
        """Refuse a command that lacks its checkpoint; when training goes on, keep the checkpoint's model settings."""
        config = self.config[self.config.subcommand]
        path = config.get("ckpt_path")
        given = [a.split("=")[0] for a in sys.argv if a.startswith("--model.") and "--model.compile" not in a]
        if path is not None and given:
            raise ValueError(f"{given[0]} has no effect beside --ckpt_path, whose model is used: leave it out")
        if self.config.subcommand != "fit":
            if path is None:
                raise ValueError(f"expected a checkpoint to {self.config.subcommand} with: set --ckpt_path")
            if self.config.subcommand in ("test", "validate") and config.get("data") is None:
                raise ValueError(f"expected a data set to {self.config.subcommand} on: set --data")
        elif path is not None and path not in CHECKPOINT_WORDS:
            model = {"model": read_checkpoint(path)["hyper_parameters"]}
            self.config = self.parser.parse_object({"fit": model}, Namespace(self.config))

    def before_instantiate_classes(self) -> None:
        """Keep the written configuration for training, where it has a budget: a predict run has its manifest."""
        config = self.config[self.config.subcommand]
        torch.set_float32_matmul_precision(config.matmul_precision)
        if self.subcommand != "fit":
            self.save_config_callback = None
        elif config.trainer.max_epochs is None and config.trainer.max_time is None and config.trainer.max_steps == -1:
            config.trainer.max_steps = FIT_STEPS

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Add what the command needs to the callbacks asked for."""
        if self.subcommand == "fit":
            config = self.config_init["fit"]
            trainer, stopping = config["trainer"], config["early_stopping"]
            added = [SafeCheckpoints(), Validations(), FiniteLoss(), *([stopping] if stopping else [])]
            own = trainer["callbacks"] if isinstance(trainer["callbacks"], list) else [trainer["callbacks"]]
            if trainer["enable_progress_bar"] is not False and not any(isinstance(c, ProgressBar) for c in own):
                added.append(TrainingProgress())
            self.trainer_defaults["callbacks"] = added
        elif self.subcommand == "predict":
            sampling: SamplingRun = self.config_init["predict"]["sampling"]
            self.trainer_defaults["callbacks"] = [
                SamplingProgress(),
                RunReport(),
                SampleWriter(sampling.output, sampling.format),
            ]
        elif self.subcommand == "test":
            self.trainer_defaults["callbacks"] = [RunReport(self.config_init["test"]["sampling"].output)]
        return super().instantiate_trainer(**kwargs)

    def after_instantiate_classes(self) -> None:
        """Load the finished model, and hand it the sampling settings without those that concern files."""
        config = self.config_init[str(self.subcommand)]
        if self.subcommand != "fit":
            compiled = self.model.compile_network
            self.model = ScoreModule.load_from_checkpoint(config["ckpt_path"], compile=compiled)
        chosen = config["sampling"]
        self.model.sampling = Sampling(**{f.name: getattr(chosen, f.name) for f in fields(Sampling)})

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        kwargs = super()._prepare_subcommand_kwargs(subcommand)
        if subcommand == "fit":
            return {**kwargs, "weights_only": True}
        # The model is loaded already, from the checkpoint alone.
        del kwargs["ckpt_path"]
        if subcommand == "predict":
            # Sampling reads no data, so its loader is the model's; a data set given is for the pictures alone.
            kwargs.pop("datamodule", None)
            kwargs["return_predictions"] = False
            self.trainer.reference_data = self.datamodule  # pyright: ignore[reportAttributeAccessIssue]
            if self.datamodule is not None:  # say now, and not after hours of sampling, that it does not fit
                layout = self.model.layout
                self.datamodule.expect_shape(layout.length, layout.channels)
        return kwargs

    def _run_subcommand(self, subcommand: str) -> None:
        """Say what there is after Ctrl-C, too, when Lightning leaves at once."""
        self._since = time.monotonic()
        try:
            super()._run_subcommand(subcommand)
        except SystemExit:
            if subcommand == "fit" and self.trainer.interrupted:
                self._close("interrupted: ")
            raise

    def after_fit(self) -> None:
        """Say what was done, where the checkpoint is and what to do with it."""
        self._close("trained: ")

    @rank_zero_only
    def _close(self, outcome: str) -> None:
        trainer, seconds = self.trainer, time.monotonic() - self._since
        print(f"\n{outcome}step {trainer.global_step:,} after {seconds:.0f} s{_stopped_early(trainer)}")
        callback = trainer.checkpoint_callback
        if not isinstance(callback, ModelCheckpoint):
            return
        # One that a resumed run began from may have been moved away meanwhile.
        best, last = (p if Path(p).is_file() else "" for p in (callback.best_model_path, callback.last_model_path))
        if not best and not last:
            print("no checkpoint was saved")
            return
        path = Path(best or last)
        path = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
        loss, linear = callback.best_model_score, trainer.callback_metrics.get("val_loss_linear")
        shown, warning = "", None
        if best and loss is not None and callback.monitor == "val_loss":
            shown = f" (val_loss {float(loss):.4f}"
            if linear is not None:
                shown += f"; linear model {float(linear):.4f}"
                warning = verdict(1 - float(loss) / float(linear))
            shown += f"; step {read_checkpoint(path)['global_step']:,})"
        print(f"{'best' if best else 'last'} checkpoint: {path}{shown}")
        if warning:
            print(spell(warning))
        print(f"sample from it:  python -m lightning_freqdiff predict --ckpt_path {path}")

    @rank_zero_only
    def after_validate(self) -> None:
        """Say so where the loss is no better than the linear model's."""
        gain = self.trainer.callback_metrics.get("val_gain")
        warning = None if gain is None else verdict(float(gain))
        if warning:
            print(spell(warning))


def _stopped_early(trainer: Trainer) -> str:
    """Say that early stopping ended a run, and how to go without."""
    for callback in trainer.callbacks:  # pyright: ignore[reportAttributeAccessIssue]
        if isinstance(callback, EarlyStopping) and callback.wait_count >= callback.patience:
            return (
                f", early: {callback.monitor} had not fallen for {callback.wait_count} validations "
                "(--early_stopping null goes on)"
            )
    return ""


def quiet() -> None:
    """Silence what Lightning says about choices that are made here on purpose."""
    for message in (
        r".*does not have many workers.*",
        r".*WeightAveraging callback with a model that overrides the configure_model.*",
        r".*isinstance\(treespec, LeafSpec\).*",
        r".*Total length of `DataLoader` across ranks is zero.*",
        r".*Checkpoint directory .* exists and is not empty.*",
        r".*is smaller than the logging interval.*",  # steps are counted over epochs
    ):
        warnings.filterwarnings("ignore", message)
    spell_warnings()
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(
        lambda record: not re.search(r"litlogger|litmodels|💡|TPU available", record.getMessage())
    )
