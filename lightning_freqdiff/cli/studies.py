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
from lightning_freqdiff.cli.evaluate import add_evaluate, add_metrics, evaluate
from lightning_freqdiff.cli.parser import PROG, Parser
from lightning_freqdiff.cli.paths import expand
from lightning_freqdiff.data import SeriesData
from lightning_freqdiff.evaluation.arithmetic import Precision
from lightning_freqdiff.evaluation.bench import Bench
from lightning_freqdiff.evaluation.calibrate import calibrate
from lightning_freqdiff.evaluation.compare import Comparison
from lightning_freqdiff.evaluation.describe import KIND, describe, show, write
from lightning_freqdiff.evaluation.evaluator import Evaluator
from lightning_freqdiff.evaluation.families import file_name, named
from lightning_freqdiff.evaluation.judges import split
from lightning_freqdiff.evaluation.presets import as_yaml
from lightning_freqdiff.evaluation.trials import beside
from lightning_freqdiff.evaluation.tune import Tuner
from lightning_freqdiff.files import replace_text
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.outputs import claimed, held
from lightning_freqdiff.running import find_device
from lightning_freqdiff.sampling.grids import TIMES
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
        parser.add_argument("--rounds", type=int, default=3, help="How often everything is timed, in turn.")
        parser.add_argument("--solvers", type=bool, default=True, help="Whether solvers with fewer steps take part.")
        parser.add_argument("--output", type=str, default="comparison", help="Folder of the results.")
    elif command == "tune":
        parser.add_argument(
            "--tolerance", type=float, required=True, help="Damage that is acceptable, 0.01 is one percent."
        )
        parser.add_argument(
            "--metric",
            type=str,
            default="relative_l2",
            help="What the tolerance is about: relative_l2, the distance to the uncached samples; sw, the change of "
            "sliced Wasserstein; or the change of any metric of evaluate, which has no bound.",
        )
        parser.add_argument(
            "--families",
            type=str,
            nargs="+",
            default=[],
            help="Caches and solvers to search; all that the metric can compare if not given.",
        )
        parser.add_argument(
            "--confirm", type=int, default=64, help="Samples of fresh noise to confirm the winner on."
        )
        parser.add_argument("--name", type=str, default="tuned", help="Name of the preset.")
        parser.add_argument(
            "--minutes",
            type=float,
            default=None,
            help="Time that the search may take; as long as it takes if not given.",
        )
        parser.add_argument(
            "--also",
            type=Literal["precision", "compile"],
            nargs="*",
            default=["precision"],
            help="What the best are tried with as well, where it is faster on this machine: precision bf16-mixed, "
            "torch.compile.",
        )
        parser.add_argument(
            "--keep_all", type=bool, default=False, help="Write the best setting of every family too, unconfirmed."
        )
        parser.add_argument("--output", type=str, default="callbacks", help="Folder of the preset.")
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
    Comparison(module, caches, *settings, split(config.metrics)).run()


def _tune(config: Any, module: ScoreModule, data: SeriesData | None, console: Console) -> None:
    wanted = named(config.families, config.metric, TIMES in module.score.calibration)
    path = Path(config.output) / f"{config.name}.yaml"
    if not config.name or Path(config.name).name != config.name:
        raise ValueError(f"expected the name of a file, got {config.name!r}: set `name`, and the folder by `output`")
    if config.confirm < 1:
        raise ValueError(f"expected at least 1 sample to confirm on, got {config.confirm}: set `confirm`")
    kept = [path.with_name(f"{file_name(family)}.yaml") for family in wanted] if config.keep_all else []
    left = [one for one in beside(path) if one.exists()]
    # Both are of a search that found nothing; one alone is somebody's.
    for new in (path, *kept, *(left if len(left) == 1 else ())):
        if new.exists():
            raise ValueError(f"expected a new preset, but {new} is there already: set --name or --output")
    with held(path.parent, "output"):
        evaluator = Evaluator(data) if data is not None else None
        bench = Bench(module, config.sampling)
        goal = config.tolerance, config.metric
        tuner = Tuner(bench, *goal, evaluator, config.confirm, console, config.minutes, _precisions(config))
        best, confirmed = [], None
        try:
            best, confirmed = tuner.run(wanted)
        finally:
            if tuner.trials:
                path.parent.mkdir(parents=True, exist_ok=True)
                tuner.write(path, confirmed)
                console.print(f"all trials: {beside(path)[0]}", highlight=False, soft_wrap=True)
    for trial in best if config.keep_all else ():
        found = trial.family.contender(trial.knob, config.sampling)
        text = as_yaml(found, [f"Best of its kind at {config.metric} {config.tolerance:g}."])
        replace_text(path.with_name(f"{file_name(trial.family)}.yaml"), text)
    if confirmed is None:
        raise ValueError(
            f"nothing was faster than no cache and confirmed within {config.metric} {config.tolerance:g} at "
            f"{config.sampling.num_steps} steps: raise --tolerance, or sample without a cache"
        )
    found = confirmed.family.contender(confirmed.knob, config.sampling)
    comment = [
        f"Found by tune for checkpoint {str(module.checkpoint_hash)[:12]}: {config.metric} within "
        f"{config.tolerance:g} at {config.sampling.num_steps} steps",
        f"of {type(config.sampling.solver).__name__}. On fresh noise, {config.confirm} samples: "
        f"{tuner.damage(confirmed)}; {tuner.speedup(confirmed, fresh=True):.1f} times faster.",
        f"Damage is relative to {tuner.against(confirmed)}.",
    ]
    replace_text(path, as_yaml(found, comment))
    console.print(f"\n{path}: {comment[1]}", highlight=False, soft_wrap=True)
    console.print(
        f"use it:  python -m lightning_freqdiff predict --ckpt_path {config.ckpt_path} --config {path}",
        soft_wrap=True,
    )


def _precisions(config: Any) -> tuple[tuple[Precision | None, bool], ...]:
    """Return what the best are tried with as well, beside what is set."""
    wanted = "precision" in config.also and config.precision == "32-true"
    low: tuple[Precision, ...] = ("bf16-mixed",) if wanted else ()
    if "compile" not in config.also or config.compile:
        return tuple((precision, False) for precision in low)
    return ((None, True), *((precision, compiled) for precision in low for compiled in (False, True)))


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
    "tune": _tune,
    "calibrate": _calibrate,
    "distill": distill,
    "backtest": backtest,
}
