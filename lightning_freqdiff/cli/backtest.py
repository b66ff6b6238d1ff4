"""`backtest` on the command line."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser
from rich.console import Console

from lightning_freqdiff.callbacks.identity import sampling_settings
from lightning_freqdiff.cli.errors import spell
from lightning_freqdiff.data import SeriesData
from lightning_freqdiff.evaluation.backtest_report import KIND, MEANING, WRITTEN, summary, table, write
from lightning_freqdiff.model import Model
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.outputs import claimed
from lightning_freqdiff.sampling import Sampling


def add_backtest(parser: ArgumentParser) -> None:
    """Add the options of `backtest`, beside those of all studies of a checkpoint."""
    parser.add_argument("--horizon", type=int, required=True, help="Steps to forecast.")
    parser.add_argument("--stride", type=int | None, default=None, help="Steps between origins; the horizon if null.")
    parser.add_argument("--origins", type=int | None, default=None, help="Origins, evenly spaced; all if not given.")
    parser.add_argument(
        "--season", type=int | None, default=None, help="Steps of a season, such as 24 of hours in a day."
    )
    parser.add_argument("--rivals", type=bool, default=True, help="Whether to measure simpler forecasts beside.")
    parser.add_argument("--output", type=str, default="backtest", help="Folder of the results.")


def backtest(config: Any, module: ScoreModule, data: SeriesData | None, console: Console) -> None:
    """Forecast, measure, and leave the results."""
    if data is None:
        raise ValueError("expected real series to forecast, got none: set `data`")
    sampling: Sampling = replace(config.sampling, condition=None)  # what is known is that of the series
    given = {one.name: getattr(sampling, one.name) for one in fields(Sampling)}
    count, seed, constraint, _ = (given.pop(name) for name in ("num_samples", "seed", "constraint", "condition"))
    trainer = {"accelerator": "cpu" if module.device.type == "cpu" else "gpu", "precision": config.precision}
    asked = {name: config[name] for name in ("stride", "origins", "season", "rivals")}
    output = Path(config.output).expanduser()
    with claimed(output, "output", KIND), console.status("forecasts") as status:
        found = Model(module).backtest(
            config.horizon, data, count, constraint, seed=seed, tell=status.update, **asked, **given, **trainer
        )
        write(found, output, {"checkpoint": module.checkpoint_hash, "sampling": sampling_settings(sampling)})
    console.print(table(found))
    for text in (summary(found), MEANING, *(f"note: {spell(note)}" for note in found.notes)):
        console.print(text, highlight=False, markup=False, soft_wrap=True)
    console.print(f"written: {', '.join(str(output / name) for name in WRITTEN)}", highlight=False, soft_wrap=True)
