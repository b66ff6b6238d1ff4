"""`evaluate` on the command line."""

from __future__ import annotations

import time
from dataclasses import fields
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser
from rich.console import Console

from lightning_freqdiff.cli.errors import spell
from lightning_freqdiff.evaluation.evaluate import measure
from lightning_freqdiff.evaluation.findings import EvaluateSettings, Findings
from lightning_freqdiff.evaluation.judges import LONG, NAMES, SHORT, split
from lightning_freqdiff.evaluation.reading import Reading, read_sets
from lightning_freqdiff.evaluation.report import KIND, WRITTEN, lines, table, usefulness, verdict, write
from lightning_freqdiff.metrics import Protocol
from lightning_freqdiff.outputs import claimed

COST = (
    f"{', '.join(NAMES)}; or {', '.join(SHORT)}, default. For 1,000 series of 187 steps on one "
    "core, context_fid takes a minute, discriminative and predictive five to ten each (by their steps), "
    f"nearest_dtw two, all others seconds. The default is all but nearest_dtw and, for more than {LONG} steps, but "
    "discriminative and predictive."
)


def add_metrics(parser: ArgumentParser, default: list[str], text: str) -> None:
    """Add the choice of metrics: words apart, or with commas."""
    parser.add_argument("--metrics", type=str, nargs="+", default=default, help=text)


def add_repetitions(parser: ArgumentParser) -> None:
    """Add how often metrics that train networks are taken."""
    parser.add_argument(
        "--repetitions",
        type=int,
        default=EvaluateSettings().repetitions,
        help="How often networks are trained, each under a seed of its own; published tables have 5.",
    )


def add_evaluate(parser: ArgumentParser) -> None:
    """Add the options of `evaluate`."""
    default = EvaluateSettings()
    parser.add_argument("--generated", type=str, required=True, help="Generated series: a file, or a folder.")
    parser.add_argument("--reference", type=str, required=True, help="Real series that the model was trained on.")
    parser.add_argument("--holdout", type=str, default=None, help="Real series that it was not trained on.")
    parser.add_argument("--output", type=str, default="evaluation", help="Folder of the results.")
    add_metrics(parser, ["default"], COST)
    parser.add_argument(
        "--protocol",
        type=Protocol,
        default=default.protocol,
        help="How discriminative, predictive, context_fid and correlational are taken: timegan as published tables.",
    )
    add_repetitions(parser)
    parser.add_argument(
        "--rows", type=int, default=default.rows, help="Series of each set that are compared, at most."
    )
    parser.add_argument(
        "--directions", type=int, default=default.directions, help="Directions of the sliced Wasserstein distance."
    )
    parser.add_argument("--seed", type=int, default=default.seed, help="Seed of all that is drawn.")
    parser.add_argument("--threads", type=int, default=None, help="CPU threads; PyTorch's default if not given.")
    parser.add_class_arguments(Reading, "data")


def evaluate(config: Any, console: Console) -> None:
    """Evaluate files, say how it goes, and leave the results."""
    names = {field.name for field in fields(EvaluateSettings)} - {"metrics"}
    settings = EvaluateSettings(split(config.metrics), **{name: config[name] for name in names})
    output = Path(config.output).expanduser()
    given = {role: config[role] for role in ("generated", "reference", "holdout")}
    with claimed(output, "output", KIND), console.status("reading") as status:
        if (output / "evaluation.json").exists():
            _say(console, f"note: takes the place of the evaluation that was in {output}")
        sets = read_sets(**given, reading=config.data, seed=settings.seed)
        for warning in sets.warnings:
            _say(console, f"note: {spell(warning)}")
        since = time.perf_counter()

        def tell(step: str) -> None:
            status.update(f"{step}  ({time.perf_counter() - since:.0f} s)")
            if not console.is_terminal:
                _say(console, f"{time.perf_counter() - since:5.0f} s  {step}")

        found = measure(sets, settings, tell)
        tell("pictures")
        names_only = {role: None if path is None else Path(path).name for role, path in given.items()}
        write(found, output, names_only)
    _show(found, console)
    _say(console, f"written: {', '.join(str(output / name) for name in WRITTEN)}")
    if not found.complete:
        raise KeyboardInterrupt


def _show(found: Findings, console: Console) -> None:
    console.print(table(found))
    counts = found.counts
    _say(
        console,
        f"{counts['compared']:,} series each against {counts['reference']:,} training series; floor: "
        f"{found.sets.held_out_from}; position 0 is at the floor, 1 at the ceiling.",
    )
    _say(console, verdict(found.memorization))
    if found.labelled is not None:
        _say(console, usefulness(found.labelled))
    for line in lines(found)[len(found.sets.warnings) :]:
        _say(console, f"note: {spell(line)}")


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
