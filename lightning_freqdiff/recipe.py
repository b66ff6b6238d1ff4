"""How a model is trained where nothing else is said, from Python and on the command line alike.

The callbacks are imported where they are made: the help that names the budget needs none of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning.pytorch import Callback, Trainer

FIT_STEPS = 700
"""Steps of a run that nothing else is said of: under three minutes of the default network on two CPU cores."""

TRAINER: dict[str, Any] = {
    "gradient_clip_val": 1.0,
    "log_every_n_steps": 20,
    "num_sanity_val_steps": 0,
    "enable_model_summary": False,
}

SAMPLER: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False}
"""What a run on a finished model does: leave nothing behind but what was asked for."""

AVERAGING: dict[str, Any] = {"decay": 0.995}
"""Weights that are validated, saved and sampled from are a moving average."""

CHECKPOINT: dict[str, Any] = {
    "monitor": "val_loss",
    "filename": "best",
    "save_last": True,
    "enable_version_counter": False,
}

STOPPING: dict[str, Any] = {"monitor": "val_loss", "patience": 6, "check_on_train_epoch_end": False}
"""Small data sets are learnt by heart long before the steps are over."""


def steps_without_budget(max_steps: int, max_epochs: int | None, max_time: Any) -> int:
    """Return the steps to train for: those asked for, or ``FIT_STEPS`` where no budget of any kind was named."""
    return FIT_STEPS if max_epochs is None and max_time is None and max_steps == -1 else max_steps


def watching(callbacks: Sequence[Callback], progress: bool = True) -> list[Callback]:
    """Return what watches over every training beside the callbacks asked for."""
    from lightning.pytorch.callbacks import ProgressBar

    from lightning_freqdiff.callbacks import FiniteLoss, Refit, SafeCheckpoints, TrainingProgress, Validations

    bar = [TrainingProgress()] if progress and not any(isinstance(c, ProgressBar) for c in callbacks) else []
    return [SafeCheckpoints(), Validations(), FiniteLoss(), Refit(), *bar]


def training(given: Mapping[str, Any], folder: Path, stopping: bool = True) -> dict[str, Any]:
    """Return the arguments of a trainer: those given, and the recipe's for what they leave open.

    A callback that was given takes the place of the recipe's of its kind.

    Args:
        given: Arguments of Lightning's ``Trainer``.
        folder: Where checkpoints and figures go.
        stopping: Whether the run ends early where ``val_loss`` no longer falls.
    """
    from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

    from lightning_freqdiff.callbacks import Averaging, MetricsFile
    from lightning_freqdiff.running import check_processes

    check_processes(given.get("devices", "auto"), given.get("accelerator", "auto"))
    asked = list_of(given.get("callbacks"))
    own: list[Callback] = watching(asked, progress=given.get("enable_progress_bar") is not False)
    own.append(Averaging(**AVERAGING))
    if given.get("enable_checkpointing") is not False:
        own.append(ModelCheckpoint(folder / "checkpoints", **CHECKPOINT))
    if stopping:
        own.append(EarlyStopping(**STOPPING))
    budget = (given.get(name) for name in ("max_epochs", "max_time"))
    return {
        **TRAINER,
        "logger": MetricsFile(folder.parent, folder.name, ""),
        **given,
        "max_steps": steps_without_budget(given.get("max_steps", -1), *budget),
        "callbacks": [*asked, *(c for c in own if not any(isinstance(a, _kind(c)) for a in asked))],
    }


def sampling(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a trainer that draws samples."""
    from lightning.pytorch.callbacks import ProgressBar

    from lightning_freqdiff.callbacks import SamplingProgress
    from lightning_freqdiff.running import check_processes

    check_processes(given.get("devices", "auto"), given.get("accelerator", "auto"))
    asked = list_of(given.get("callbacks"))
    silent = given.get("enable_progress_bar") is False or any(isinstance(c, ProgressBar) for c in asked)
    return {**SAMPLER, **given, "callbacks": [*asked, *([] if silent else [SamplingProgress()])]}


def list_of(callbacks: Callback | Sequence[Callback] | None) -> list[Callback]:
    """Return the callbacks of a trainer, which takes a single one as well."""
    from lightning.pytorch import Callback

    found = [callbacks] if isinstance(callbacks, Callback) else list(callbacks or ())
    if wrong := [one for one in found if not isinstance(one, Callback)]:
        raise ValueError(f"expected instances of Lightning's Callback, got {wrong[0]!r}: set `callbacks`")
    return found


def _kind(callback: Callback) -> type[Callback]:
    """Return what two callbacks are both of, where one makes the other needless."""
    from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, WeightAveraging

    kinds = (WeightAveraging, ModelCheckpoint, EarlyStopping)
    return next((kind for kind in kinds if isinstance(callback, kind)), type(callback))


def make_trainer(arguments: dict[str, Any]) -> Trainer:
    """Make a trainer.

    Raises:
        ValueError: For what Lightning's does not take.
    """
    from lightning.pytorch import Trainer
    from lightning.pytorch.utilities.exceptions import MisconfigurationException

    try:
        return Trainer(**arguments)
    except (TypeError, MisconfigurationException) as error:
        given = {k: v for k, v in arguments.items() if k not in ("callbacks", "logger", *TRAINER)}
        text = ", ".join(f"{name}={value!r}" for name, value in given.items())
        reason = " ".join(str(error).split())
        raise ValueError(f"expected what Lightning's Trainer takes, got {text} ({reason})") from error
