"""`fit`, `validate`, `test` and `predict`: LightningCLI with OmegaConf, where everything meets."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
from jsonargparse import Namespace
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from lightning_freqdiff import recipe
from lightning_freqdiff.callbacks import Averaging, RunReport, SampleWriter, SamplingProgress, ShardWriter
from lightning_freqdiff.callbacks.run_config import RunConfig
from lightning_freqdiff.callbacks.table import Format
from lightning_freqdiff.callbacks.writers import writer
from lightning_freqdiff.checkpoint import read_checkpoint
from lightning_freqdiff.cli.closing import close_sampling, close_training, close_validation
from lightning_freqdiff.cli.commands import COMMANDS, DESCRIPTION
from lightning_freqdiff.cli.evaluate import add_metrics
from lightning_freqdiff.cli.parser import PROG, Parser
from lightning_freqdiff.cli.paths import expand
from lightning_freqdiff.cli.studies import add_matmul_precision
from lightning_freqdiff.cli.tasks import add_task, for_task
from lightning_freqdiff.data import SeriesData
from lightning_freqdiff.evaluation.judges import split
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.running import check_processes
from lightning_freqdiff.sampling import Label, Sampling

FIT_DEFAULTS: dict[str, Any] = {
    "data": {"class_path": "lightning_freqdiff.data.SyntheticECG"},
    "trainer.logger": {
        "class_path": "lightning_freqdiff.callbacks.MetricsFile",
        "init_args": {"save_dir": "runs", "name": "fit"},
    },
    "early_stopping": {"class_path": "lightning.pytorch.callbacks.EarlyStopping", "init_args": recipe.STOPPING},
    **{f"trainer.{name}": value for name, value in recipe.TRAINER.items()},
    **{f"ema.{name}": value for name, value in recipe.AVERAGING.items()},
    **{f"checkpoint.{name}": value for name, value in recipe.CHECKPOINT.items()},
}
"""What `fit` does with no other word."""

RUN_DEFAULTS: dict[str, Any] = {f"trainer.{name}": value for name, value in recipe.SAMPLER.items()}

CHECKPOINT_WORDS = ("last", "hpc", "registry")
"""Words that Lightning understands in place of a checkpoint's path; a new run has no best one."""

ABOVE_ZERO = ("accumulate_grad_batches", "val_check_interval")
"""Settings of the Trainer that it divides by, without a look."""

PATHS = ("ckpt_path", "sampling.output", "trainer.logger.init_args.save_dir")
"""Settings that Lightning takes as they are, with a `~`."""


@dataclass(frozen=True)
class SamplingRun(Sampling):
    """How many samples to draw, how, and where they go."""

    output: str = "samples"
    format: Format | Literal["zarr"] | None = None
    shard: str | None = None

    def __post_init__(self, label: Label, guidance_scale: float | None) -> None:
        super().__post_init__(label, guidance_scale)
        writer(self.output, self.format, self.shard)  # or says why there can be none


# What is drawn, and how, is said once, where it belongs.
SamplingRun.__doc__ = f"""{str(Sampling.__doc__).rstrip()}
        output: Folder for samples.npy, manifest.json and pictures, or a URL such as s3://bucket/run for a data set of
            many files; an interrupted run there is taken up again.
        format: Format of the samples: npy, npz, csv or parquet (long tables); if not given, a table where the model
            was trained on tables, else npy. Of a data set of many files: parquet (lists; if not given), npy or zarr.
        shard: Part of the samples to draw, i/n with i from 0 to n - 1, for job arrays, into a data set of many files.
    """


class TrainerParser(Parser, LightningArgumentParser):
    """LightningCLI's own parser, with our errors."""


class CLI(LightningCLI):
    """LightningCLI whose sampling needs a checkpoint and nothing else.

    Args:
        command: The only command to build a parser for; all if not given.
    """

    def __init__(self, command: str | None = None) -> None:
        self._built = (command,) if command else (*COMMANDS,)
        main: dict[str, Any] = {"parser_mode": "omegaconf", "prog": PROG, "description": DESCRIPTION}
        below = {command: {"parser_mode": "omegaconf", "description": text} for command, text in COMMANDS.items()}
        super().__init__(
            ScoreModule,
            SeriesData,
            subclass_mode_data=True,
            save_config_callback=RunConfig,
            parser_class=TrainerParser,
            parser_kwargs={**main, **below},
            seed_everything_default=0,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
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
        for command in self._built:
            self._subcommand_parsers[command] = self._prepare_subcommand_parser(Trainer, command, **kwargs[command])
            commands.add_subcommand(command, self._subcommand_parsers[command], help=COMMANDS[command])

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        if subcommand == "fit":
            parser.add_lightning_class_args(Averaging, "ema")  # pyright: ignore[reportArgumentType]
            parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")  # pyright: ignore[reportArgumentType]
            # Not as a callback of Lightning's parser, where null would not turn it off.
            parser.add_subclass_arguments(EarlyStopping, "early_stopping", required=False)
        if subcommand in ("test", "predict"):
            add_metrics(
                parser, [], "Metrics of evaluate to put into the report as well, and copies of training series."
            )
        if subcommand == "predict":
            add_task(parser)
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
        expand(config, *PATHS)
        path = config.get("ckpt_path")
        given = [a.split("=")[0] for a in sys.argv if a.startswith("--model.") and "--model.compile" not in a]
        if path is not None and given:
            raise ValueError(f"{given[0]} has no effect beside --ckpt_path, whose model is used: leave it out")
        if self.config.subcommand != "fit":
            if not path:
                raise ValueError(f"expected a checkpoint to {self.config.subcommand} with: set --ckpt_path")
            if self.config.subcommand in ("test", "validate") and config.get("data") is None:
                raise ValueError(f"expected a data set to {self.config.subcommand} on: set --data")
        elif path is not None and path not in CHECKPOINT_WORDS:
            ScoreModule.load_from_checkpoint(path)  # or says what is wrong with it, which Lightning would not
            checkpoint = read_checkpoint(path)
            if "optimizer_states" not in checkpoint:
                raise ValueError(
                    f"expected a checkpoint to go on training from, but {path} holds the model alone: set "
                    "`ckpt_path` to one saved without `checkpoint.save_weights_only`"
                )
            model = {"model": checkpoint["hyper_parameters"]}
            self.config = self.parser.parse_object({"fit": model}, Namespace(self.config))

    def before_instantiate_classes(self) -> None:
        """Keep the written configuration for training, where it has a budget: a predict run has its manifest."""
        config = self.config[self.config.subcommand]
        torch.set_float32_matmul_precision(config.matmul_precision)
        check_processes(config.trainer.devices, config.trainer.accelerator)
        if self.subcommand != "fit":
            self.save_config_callback = None
        else:
            trainer = config.trainer
            for name in ABOVE_ZERO:
                if isinstance(trainer[name], (int, float)) and trainer[name] <= 0:
                    raise ValueError(f"expected {name} above 0, got {trainer[name]}: set `trainer.{name}`")
            trainer.max_steps = recipe.steps_without_budget(trainer.max_steps, trainer.max_epochs, trainer.max_time)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Add what the command needs to the callbacks asked for."""
        metrics = split(self.config_init[str(self.subcommand)].get("metrics", []))
        if self.subcommand == "fit":
            config = self.config_init["fit"]
            trainer, stopping = config["trainer"], config["early_stopping"]
            own = trainer["callbacks"] if isinstance(trainer["callbacks"], list) else [trainer["callbacks"]]
            added = recipe.watching(own, progress=trainer["enable_progress_bar"] is not False)
            self.trainer_defaults["callbacks"] = added + ([stopping] if stopping else [])
        elif self.subcommand == "predict":
            sampling: SamplingRun = self.config_init["predict"]["sampling"]
            made = writer(sampling.output, sampling.format, sampling.shard)
            if metrics and isinstance(made, ShardWriter):
                raise ValueError("expected no metrics of a data set that many workers fill: leave `metrics` out")
            report = [RunReport(metrics=metrics)] if isinstance(made, SampleWriter) else []
            self.trainer_defaults["callbacks"] = [SamplingProgress(), *report, made]
        elif self.subcommand == "test":
            output = self.config_init["test"]["sampling"].output
            self.trainer_defaults["callbacks"] = [RunReport(output, metrics=metrics)]
        return super().instantiate_trainer(**kwargs)

    def after_instantiate_classes(self) -> None:
        """Load the finished model, and hand it the sampling settings without those that concern files."""
        config = self.config_init[str(self.subcommand)]
        if self.subcommand != "fit":
            compiled = self.model.compile_network
            self.model = ScoreModule.load_from_checkpoint(config["ckpt_path"], compile=compiled)
        chosen = config["sampling"]
        self.model.sampling = Sampling(**{f.name: getattr(chosen, f.name) for f in fields(Sampling)})
        if self.subcommand == "predict":
            self.model.sampling = for_task(self.model, self.datamodule, config)

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
            if self.config["predict"].get("task"):
                return kwargs  # its data set is what is filled in
            self.trainer.reference_data = self.datamodule  # pyright: ignore[reportAttributeAccessIssue]
            if self.datamodule is None and self.config["predict"].get("metrics"):
                raise ValueError("expected a data set to take metrics against: set `data`")
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
            if self.trainer.interrupted:
                if subcommand == "fit":
                    close_training(self.trainer, "interrupted", time.monotonic() - self._since)
                elif subcommand == "predict":
                    close_sampling(self.trainer, self.config_init["predict"]["sampling"].output)
            raise

    def after_fit(self) -> None:
        """Say what was done, where the checkpoint is and what to do with it."""
        close_training(self.trainer, "trained", time.monotonic() - self._since)

    def after_validate(self) -> None:
        """Say so where the loss is no better than the linear model's."""
        close_validation(self.trainer)
