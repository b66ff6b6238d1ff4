"""Commands that study a finished model or a data set: no Trainer, and so no part of LightningCLI."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from jsonargparse import ArgumentParser
from lightning.pytorch import seed_everything
from rich.console import Console

from lightning_freqdiff.callbacks.presets import read_presets
from lightning_freqdiff.checkpoint import calibration_path, check_calibration_path, weights_hash, write_calibration
from lightning_freqdiff.cli.app import add_app, app
from lightning_freqdiff.cli.backtest import add_backtest, backtest
from lightning_freqdiff.cli.commands import STUDIES
from lightning_freqdiff.cli.distill import add_distill, distill
from lightning_freqdiff.cli.errors import spell
from lightning_freqdiff.cli.evaluate import add_evaluate, add_metrics, add_repetitions, evaluate
from lightning_freqdiff.cli.parser import PROG, Parser
from lightning_freqdiff.cli.paths import expand
from lightning_freqdiff.cli.tune import add_tune, tune
from lightning_freqdiff.data import SeriesData
from lightning_freqdiff.evaluation.calibrate import calibrate
from lightning_freqdiff.evaluation.compare import Comparison
from lightning_freqdiff.evaluation.describe import KIND, describe, show, write
from lightning_freqdiff.evaluation.judges import split
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.outputs import claimed
from lightning_freqdiff.running import find_device
from lightning_freqdiff.sampling.loop import Sampling

MOST_THREADS = 1024
"""More of them bring PyTorch down, without a word."""

WIDTH = 150
"""Columns of a table that goes to a file or a pipe."""


DATA_OF = {
    "backtest": "Series to forecast: with the settings that the model was trained with, those it has not seen."
}
"""What the data set of a study is for, where it is for something else than for most."""


def add_matmul_precision(parser: ArgumentParser) -> None:
    """Add what float32 products may be made of."""
    parser.add_argument(
        "--matmul_precision",
        type=Literal["highest", "high", "medium"],
        default="high",
        help="Products of float32 numbers: highest in float32, high in TF32 on a GPU, medium in bfloat16.",
    )


def build_parser(command: str) -> ArgumentParser:
    """Make the parser of one study."""
    parser = Parser(prog=f"{PROG} {command}", description=STUDIES[command], parser_mode="omegaconf")
    parser.add_argument("--config", action="config")
    if command == "describe":
        parser.add_subclass_arguments(SeriesData, "data", required=True, help="Data set to describe.")
        parser.add_argument("--output", type=str, default="description", help="Folder of the description.")
        return parser
    if command == "evaluate":
        add_evaluate(parser)
        return parser
    if command == "app":
        add_app(parser)
        return parser
    parser.add_argument("--ckpt_path", type=str, required=True, help="Checkpoint to study.")
    parser.add_argument("--device", type=str, default="auto", help="cpu, cuda, cuda:1 ...; auto takes a GPU if any.")
    parser.add_argument("--threads", type=int, default=None, help="CPU threads; PyTorch's default if not given.")
    parser.add_argument(
        "--precision",
        type=Literal["32-true", "bf16-mixed"],
        default="32-true",
        help="Precision of all sampling, as --trainer.precision of predict.",
    )
    parser.add_argument(
        "--compile", type=bool, default=False, help="Sample through torch.compile, as --model.compile of predict."
    )
    add_matmul_precision(parser)
    if command == "distill":
        add_distill(parser)
        return parser
    if command == "compare":
        parser.add_argument(
            "--callbacks", type=str, nargs="+", default=[], help="Presets of caches, by name or path."
        )
        add_metrics(parser, [], "Taken as well, each with its floor and its ceiling.")
        add_repetitions(parser)
        parser.add_argument("--rounds", type=int, default=3, help="How often everything is timed, in turn.")
        parser.add_argument("--solvers", type=bool, default=True, help="Whether solvers with fewer steps take part.")
        parser.add_argument("--output", type=str, default="comparison", help="Folder of the results.")
    elif command == "tune":
        add_tune(parser)
    elif command == "backtest":
        add_backtest(parser)
    else:
        parser.add_argument(
            "--output", type=str, default=None, help="File to write; beside the checkpoint if not given."
        )
    if command != "calibrate":
        parser.add_subclass_arguments(
            SeriesData, "data", required=False, help=DATA_OF.get(command, "Training set to measure distances to.")
        )
    parser.add_class_arguments(Sampling, "sampling")
    if command in ("tune", "calibrate"):
        parser.set_defaults({"sampling.num_samples": 16})
    if command == "backtest":
        parser.set_defaults({"sampling.num_samples": 100})
    return parser


def run(command: str, args: Sequence[str]) -> None:
    """Parse and run one study."""
    parser = build_parser(command)
    parsed = parser.parse_args(list(args))
    expand(parsed, "ckpt_path", "output")
    config: Any = parser.instantiate(parsed)
    if config.get("threads") is not None:
        set_threads(config.threads)
    if command == "describe":
        _describe(config.data, Path(config.output))
        return
    if command == "app":
        app(config)
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    try:
        if command == "evaluate":
            evaluate(config, console)
        else:
            _on_checkpoint(command, config, console)
    except KeyboardInterrupt:
        console.print("interrupted", highlight=False)
        sys.exit(130)


def _on_checkpoint(command: str, config: Any, console: Console) -> None:
    torch.set_float32_matmul_precision(config.matmul_precision)
    module = ScoreModule.load_from_checkpoint(config.ckpt_path, compile=config.compile)
    module = module.to(find_device(config.device))
    data = config.get("data")
    if data is not None:
        data.prepare_data()
        data.expect_shape(module.layout.length, module.layout.channels)
    if command == "distill":
        config.sampling = Sampling(num_samples=config.lessons, batch_size=config.batch_size, seed=config.seed)
        seed_everything(config.seed, workers=True, verbose=False)
    else:
        config.sampling = module.as_trained(config.sampling)
        module.check(replace(config.sampling, grid="uniform"))
    with torch.autocast(module.device.type, torch.bfloat16, enabled=config.precision == "bf16-mixed"):
        RUNNERS[command](config, module, data, console)


def set_threads(count: int) -> None:
    """Set the CPU threads of this process."""
    if not 1 <= count <= MOST_THREADS:
        raise ValueError(f"expected threads from 1 to {MOST_THREADS:,}, got {count}: set `threads`")
    torch.set_num_threads(count)


def _describe(data: SeriesData, output: Path) -> None:
    with claimed(output, "output", KIND):
        data.prepare_data()
        facts = describe(data)
        write(data, facts, output)
    show({**facts, "warnings": [spell(warning) for warning in facts["warnings"]]})
    print(f"written: {output / 'description.json'}, {output / 'description.png'}")


def _compare(config: Any, module: ScoreModule, data: SeriesData | None, console: Console) -> None:
    caches = read_presets(config.callbacks, config.sampling)
    settings = config.sampling, Path(config.output), data, config.rounds, config.solvers, console
    Comparison(module, caches, *settings, split(config.metrics), config.repetitions).run()


def _calibrate(config: Any, module: ScoreModule, data: SeriesData | None, console: Console) -> None:
    path = Path(config.output) if config.output else calibration_path(config.ckpt_path)
    check_calibration_path(path)
    since = time.perf_counter()
    fitted, fits = calibrate(module, config.sampling)
    write_calibration(path, fitted, weights_hash(module))
    for name, value in fits.items():
        console.print(f"{name}: {value:.4g}", highlight=False)
    console.print(f"seconds: {time.perf_counter() - since:.0f}", highlight=False)
    console.print(f"calibration: {path}", highlight=False, soft_wrap=True)


RUNNERS: dict[str, Callable[..., None]] = {
    "compare": _compare,
    "tune": tune,
    "calibrate": _calibrate,
    "distill": distill,
    "backtest": backtest,
}
