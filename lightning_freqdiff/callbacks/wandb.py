"""Weights & Biases: a logger that works without an account, and the board that shows results there."""

from __future__ import annotations

import os
from typing import Any

from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from lightning_freqdiff.callbacks.boards import Board
from lightning_freqdiff.callbacks.evaluation import Evaluation


def has_key() -> bool:
    """Tell whether W&B would find an API key, without asking for one."""
    import wandb

    return bool(wandb.api.api_key)


class WandbRun(WandbLogger):
    """WandbLogger that is offline where there is no key, and logs settings only: no paths, no environment.

    Args:
        project: Project on W&B.
        name: Name of the run; W&B makes one up if not given.
        group: Runs that belong together.
        save_dir: Folder that the run's files go to, in a subfolder wandb.
    """

    def __init__(
        self,
        project: str = "freqdiff",
        name: str | None = None,
        group: str | None = None,
        save_dir: str = "runs",
    ) -> None:
        import wandb

        mode = os.environ.get("WANDB_MODE")
        self._told = mode is not None
        if mode is None and not has_key():
            mode = "offline"
        os.makedirs(save_dir, exist_ok=True)
        # Host, command line, packages and git state hold paths and names that nobody asked to upload.
        settings = wandb.Settings(x_disable_meta=True, save_code=False, disable_git=True, console="off")
        super().__init__(
            name=name, save_dir=save_dir, project=project, offline=mode == "offline", group=group, settings=settings
        )

    @property
    def experiment(self) -> Any:
        """The W&B run, on rank zero; says once what to do with an offline one."""
        run = super().experiment
        if self._offline and not self._told:
            self._told = True
            folder = os.path.relpath(os.path.dirname(str(getattr(run, "dir", "."))))
            rank_zero_info(f"W&B: no key was found, so the run is offline; upload it later with: wandb sync {folder}")
        return run

    def board(self) -> WandbBoard:
        """Return the board that shows results in this run."""
        return WandbBoard(self)


class WandbBoard(Board):
    """Scalars, pictures and tables in a W&B run.

    Args:
        logger: The run's logger.
    """

    def __init__(self, logger: WandbLogger) -> None:
        self.logger = logger

    def show(self, result: Evaluation, step: int, prefix: str) -> None:
        """Log everything in one call, so that it shares one step and lines up with the losses."""
        import wandb

        content: dict[str, Any] = {f"{prefix}{name}": value for name, value in result.scalars.items()}
        for name, figure in result.figures.items():
            content[f"{prefix}{name}"] = wandb.Image(_pixels(figure))
        if result.rows:
            content[f"{prefix}distances"] = wandb.Table(list(Evaluation.COLUMNS), [list(r) for r in result.rows])
        # `trainer/global_step` is the axis that Lightning's logger defines for all metrics.
        self.logger.experiment.log({**content, "trainer/global_step": step})

    def summarize(self, row: dict[str, Any]) -> None:
        """Keep the row in the run's summary."""
        self.logger.experiment.summary.update(row)


def _pixels(figure: Any) -> Any:
    """Render a figure as an array ``(height, width, 4)``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(110)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    import numpy as np

    return np.asarray(canvas.buffer_rgba())
