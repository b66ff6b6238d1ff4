"""Weights & Biases: a logger that works without an account, and the board that shows results there."""

from __future__ import annotations

import os
import secrets
from typing import Any

import numpy as np
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_only

from lightning_freqdiff.callbacks.boards import Board
from lightning_freqdiff.evaluation.result import Evaluation


def has_key() -> bool:
    """Tell whether W&B would find credentials, without asking for any and without a network."""
    import wandb

    return wandb.login(prompt=False, verify=False)


class WandbRun(WandbLogger):
    """WandbLogger that is offline where there is no key, and logs settings only: no paths, no environment.

    Args:
        project: Project on W&B.
        name: Name of the run; W&B makes one up if not given.
        group: Runs that belong together.
        save_dir: Folder for W&B's own files, in a subfolder wandb; checkpoints, configuration and figures go to
            a subfolder of the project and the run.
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
        private = {"x_disable_meta": True, "save_code": False, "disable_git": True, "console": "off"}
        private |= {"x_save_requirements": False, "host": ""}
        settings = wandb.Settings(mode=mode, **private)  # pyright: ignore[reportArgumentType]
        run = os.environ.get("WANDB_RUN_ID") or secrets.token_hex(4)  # an agent gives the name
        self._folder = os.path.join(save_dir, project, run)
        offline = mode == "offline"
        super().__init__(name, save_dir, run, offline, project=project, group=group, settings=settings)

    @property
    def save_dir(self) -> str:
        """Folder of this run alone, so that a second run finds nothing of the first in its way."""
        return self._folder

    @property
    def name(self) -> str:
        """Nothing: the project is in the folder's path already."""
        return ""

    @property
    def version(self) -> str:
        """Nothing, for the same reason."""
        return ""

    @property
    def experiment(self) -> Any:
        """The W&B run, on rank zero; says once what to do with an offline one."""
        run = super().experiment
        if self._offline and not self._told and self._is_rank_zero():
            self._told = True
            folder = os.path.relpath(os.path.dirname(run.dir))
            rank_zero_info(f"W&B: no key was found, so the run is offline; upload it later with: wandb sync {folder}")
        return run

    @staticmethod
    def _is_rank_zero() -> bool:
        return getattr(rank_zero_only, "rank", 0) == 0

    def describe(self, settings: dict[str, Any]) -> None:
        """Keep settings of the run beside those of the model."""
        self.experiment.config.update(settings, allow_val_change=True)

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
            content[f"{prefix}distances"] = wandb.Table(list(result.columns), [list(r) for r in result.rows])
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
    return np.asarray(canvas.buffer_rgba())
