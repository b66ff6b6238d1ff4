"""Where results are shown: any logger's scalars, TensorBoard's and W&B's pictures, and always the run folder."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from matplotlib.figure import Figure

from lightning_freqdiff.evaluation.result import Evaluation
from lightning_freqdiff.files import replace_csv, replacing

LEFT = ("evaluation.csv", "samples.png", "spectra.png", "cache.png")
"""Names of what is left in a folder; the first always is."""


class Board:
    """A place that results are shown in. This one shows nothing."""

    def show(self, result: Evaluation, step: int, prefix: str) -> None:
        """Show scalars, table and figures of one evaluation.

        Args:
            result: What to show.
            step: The trainer's step that it belongs to.
            prefix: Put before every name.
        """

    def summarize(self, row: dict[str, Any]) -> None:
        """Keep one row about the whole run."""


class FolderBoard(Board):
    """PNG files and CSV tables in a folder.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def show(self, result: Evaluation, step: int, prefix: str) -> None:
        """Write the figures, the newest in place of the last, and add a line to ``evaluation.csv``."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, figure in result.figures.items():
            with replacing(self.folder / f"{name}.png") as file:
                figure.savefig(file, format="png", dpi=130)
        _append(self.folder / "evaluation.csv", {"step": step, **result.scalars})


class LoggerBoard(Board):
    """Scalars through any Lightning logger, and figures where it is TensorBoard.

    Args:
        logger: The logger.
    """

    def __init__(self, logger: Logger) -> None:
        self.logger = logger

    def show(self, result: Evaluation, step: int, prefix: str) -> None:
        """Log scalars under the trainer's step, beside the losses."""
        self.logger.log_metrics({f"{prefix}{k}": v for k, v in result.scalars.items()}, step=step)
        if isinstance(self.logger, TensorBoardLogger):
            for name, figure in result.figures.items():
                _with_canvas(figure)
                self.logger.experiment.add_figure(f"{prefix}{name}", figure, step, close=False)


def boards(trainer: Trainer, folder: Path | None) -> list[Board]:
    """Return a board for the folder and one for every logger of the trainer."""
    found: list[Board] = [] if folder is None else [FolderBoard(folder)]
    for logger in trainer.loggers:
        make = getattr(logger, "board", None)
        own = make() if callable(make) else None
        found.append(own if isinstance(own, Board) else LoggerBoard(logger))
    return found


def _append(path: Path, row: dict[str, Any]) -> None:
    """Add a row to a CSV file, its header kept in step with the names."""
    rows: list[dict[str, Any]] = []
    if path.exists():
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    rows.append(row)
    replace_csv(path, list(dict.fromkeys(name for r in rows for name in r)), rows)


def _with_canvas(figure: Figure) -> None:
    """TensorBoard renders figures through their canvas, which must be one without a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
