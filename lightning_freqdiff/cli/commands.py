"""What can be asked for, in words: this room is read before anything heavy is loaded."""

from __future__ import annotations

from jsonargparse import ArgumentParser

from lightning_freqdiff import recipe
from lightning_freqdiff.cli.parser import PROG, Parser

COMMANDS = {
    "fit": f"Train a model; with no other word, a small one on embedded heartbeats for {recipe.FIT_STEPS} steps.",
    "validate": "Report the loss of a checkpoint on the validation part of a data set.",
    "test": "Measure a checkpoint against a data set: loss, distances, report page.",
    "predict": "Sample series from a checkpoint; no data set is read.",
}
"""Commands of a Trainer."""

STUDIES = {
    "compare": "Compare caches, and solvers with fewer steps, on a checkpoint: speed against damage.",
    "tune": "Find the fastest cache that keeps to a tolerance on a checkpoint, and write its preset.",
    "calibrate": "Fit what caches and few steps want to know about a checkpoint, into a file beside it.",
    "distill": "Train a copy of a checkpoint to draw its samples with a few calls.",
    "describe": "Describe a data set, and say whether the frequency domain suits it.",
    "evaluate": "Measure generated series, of whatever model, against real ones: figures, pictures, copies.",
    "backtest": "Measure forecasts of a checkpoint from many origins of real series, beside simpler forecasts.",
    "app": "Open a page to play with a checkpoint: draw with and without a cache, timed.",
    "presets": "List the configurations and caches that are found by their names.",
}
"""Commands that study a finished model or a data set, without a Trainer."""

DESCRIPTION = "Train and sample diffusion models of time series in the frequency domain."


def overview() -> ArgumentParser:
    """Make the parser of the help that lists all commands; it knows the settings of none."""
    parser = Parser(prog=PROG, description=DESCRIPTION)
    parser.add_argument("-c", "--config", action="config")
    below = parser.add_subcommands()
    for command, text in {**COMMANDS, **STUDIES}.items():
        below.add_subcommand(command, Parser(), help=text)
    return parser
