"""What a training logs, as a table beside its checkpoints."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only


class MetricsFile(CSVLogger):
    """Lightning's ``metrics.csv``, which names itself where it cannot be written, and leaves no empty folder."""

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace | None = None) -> None:
        """Write the settings of the model."""
        with self._named("hparams.yaml"):
            super().log_hyperparams(params)

    @rank_zero_only
    def save(self) -> None:
        """Write what was logged since the last time."""
        with self._named("metrics.csv"):
            super().save()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write the rest; of a run that failed before anything was written, take the folder away again."""
        try:
            super().finalize(status)
        except OSError:
            if status == "success":  # of a run that failed, there is another error to tell of
                raise
        if status != "success":
            with suppress(OSError):  # it is not empty
                Path(self.log_dir).rmdir()

    @contextmanager
    def _named(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OSError(
                f"cannot write {Path(self.log_dir) / name} ({error.strerror or error}): free space, or set "
                "`trainer.logger` to another folder"
            ) from error
