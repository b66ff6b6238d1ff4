"""`tune` on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from jsonargparse import ArgumentParser
from rich.console import Console

from lightning_freqdiff.data import SeriesData
from lightning_freqdiff.evaluation.arithmetic import Precision
from lightning_freqdiff.evaluation.bench import Bench
from lightning_freqdiff.evaluation.evaluator import Evaluator
from lightning_freqdiff.evaluation.families import file_name, named
from lightning_freqdiff.evaluation.presets import as_yaml
from lightning_freqdiff.evaluation.trials import beside
from lightning_freqdiff.evaluation.tune import Tuner
from lightning_freqdiff.files import replace_text
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.networks.low_bit import RANGE
from lightning_freqdiff.outputs import held
from lightning_freqdiff.sampling.grids import TIMES


def add_tune(parser: ArgumentParser) -> None:
    """Add the options of `tune` that no other study has."""
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
    parser.add_argument("--confirm", type=int, default=64, help="Samples of fresh noise to confirm the winner on.")
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
        help="What the best are tried with as well, where it is faster on this machine: precision bf16-mixed and, "
        "where `calibrate` found their ranges, integers of eight bits; torch.compile.",
    )
    parser.add_argument(
        "--keep_all", type=bool, default=False, help="Write the best setting of every family too, unconfirmed."
    )
    parser.add_argument("--output", type=str, default="callbacks", help="Folder of the preset.")


def tune(config: Any, module: ScoreModule, data: SeriesData | None, console: Console) -> None:
    """Search, and leave the winner as a preset with all trials beside it."""
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
        tuner = Tuner(bench, *goal, evaluator, config.confirm, console, config.minutes, _precisions(config, module))
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


def _precisions(config: Any, module: ScoreModule) -> tuple[tuple[Precision | None, bool], ...]:
    """Return what the best are tried with as well, beside what is set."""
    wanted = "precision" in config.also and config.precision == "32-true"
    low: tuple[Precision, ...] = ("bf16-mixed",) if wanted else ()
    if wanted and any(name.startswith(RANGE) for name in module.score.calibration):
        low = (*low, "w8a8")
    if "compile" not in config.also or config.compile:
        return tuple((precision, False) for precision in low)
    return ((None, True), *((precision, compiled) for precision in low for compiled in (False, True)))
