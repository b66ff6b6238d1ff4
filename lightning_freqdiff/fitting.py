"""Train a model in one line."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_only
from lightning.pytorch.utilities.seed import isolate_rng

from lightning_freqdiff import recipe
from lightning_freqdiff.callbacks.verdict import stopped_early, verdict
from lightning_freqdiff.given import (
    DATA,
    series_data,
)
from lightning_freqdiff.keywords import allot, make, names, spell, spelt
from lightning_freqdiff.model import TRAINER, Model
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.outputs import claimed, shown
from lightning_freqdiff.running import MatmulPrecision, float32_products, interruptible, quietly

MODEL = names(ScoreModule, without=("shape", "conditions"))


def fit(
    series: Any,
    *,
    seed: int | None = 0,
    folder: str | Path | None = None,
    early_stopping: bool = True,
    callbacks: Callback | Sequence[Callback] = (),
    matmul_precision: MatmulPrecision = "high",
    **settings: Any,
) -> Model:
    """Train a model, as ``python -m lightning_freqdiff fit`` does.

    It trains for 700 steps where neither ``max_steps``, ``max_epochs`` nor ``max_time`` is given, with averaged
    weights, and returns those with the lowest ``val_loss``.

    Args:
        series: An array ``(n, N, M)`` or ``(n, N)``; a table of pandas, polars or pyarrow; a path; or a data set.
        seed: Of the weights and of all that is drawn in training; ``None`` for another run each time.
        folder: Where checkpoints and figures go, new or empty; ``runs/fit/version_...`` if not given.
        early_stopping: Whether training ends where ``val_loss`` no longer falls.
        callbacks: Callbacks of Lightning's. An ``EarlyStopping``, a ``ModelCheckpoint``, a ``WeightAveraging`` or a
            progress bar takes the place of the default one.
        matmul_precision: What products of float32 numbers are made of.
        **settings: Of ``ScoreModule`` (``network``, ``sde``, ``colour``, ``learning_rate`` ...; a network or an SDE
            by its name, too), of ``ArrayData`` (``window``, ``time``, ``missing``, ``batch_size`` ...), and of
            Lightning's ``Trainer`` (``max_steps``, ``max_time``, ``accelerator``, ``devices``, ``precision`` ...).

    Returns:
        The model of the best checkpoint.

    Raises:
        ValueError: For series that cannot be learnt from, and settings that cannot be.
        KeyboardInterrupt: After Ctrl-C; it says where the best checkpoint is.

    Examples:
        >>> import numpy as np
        >>> series = np.random.default_rng(0).normal(size=(64, 16, 2))
        >>> quiet = {"accelerator": "cpu", "enable_progress_bar": False}
        >>> model = fit(series, network="MLP", max_steps=2, logger=False, enable_checkpointing=False, **quiet)
        >>> model.sample(3, num_steps=5, **quiet).shape
        (3, 16, 2)
    """
    parted = allot("fit", settings, model=MODEL, data=DATA, trainer=TRAINER)
    if seed is not None and not (isinstance(seed, int) and 0 <= seed < 2**32):
        raise ValueError(f"expected `seed` from 0 to {2**32 - 1}, or None, got {seed!r}")
    place = Path(CSVLogger("runs", name="fit").log_dir) if folder is None else Path(folder).expanduser()
    # A user's generators are left as they were.
    with (
        spelt(**{"data.path": "series", "checkpoint.dirpath": "folder"}),
        quietly(),
        float32_products(matmul_precision),
        isolate_rng(),
        _claimed(folder),
    ):
        if seed is not None:
            seed_everything(seed, workers=True, verbose=False)
        data, module = series_data(series, parted["data"]), make(ScoreModule, parted["model"])
        if data is not series:
            data.setup()  # what cannot be read leaves no folder behind
        arguments = recipe.training({**parted["trainer"], "callbacks": callbacks}, place, early_stopping)
        trainer = recipe.make_trainer(arguments)
        with interruptible(lambda: _interrupted(trainer) if trainer.interrupted else None):
            trainer.fit(module, datamodule=data)
        path = _saved(trainer)
        model = Model(module.eval() if path is None else ScoreModule.load_from_checkpoint(path), path, data)
    if early := stopped_early(trainer):
        rank_zero_info(f"stopped at step {trainer.global_step:,}, {early} (early_stopping=False goes on)")
    rank_zero_info(repr(model))
    if model.val_gain is not None and (warning := verdict(model.val_gain)):
        rank_zero_info(spell(warning, {}))
    return model


def _claimed(folder: str | Path | None) -> AbstractContextManager[None]:
    """Hold the folder that was asked for; where none was, there will be a new one."""
    if folder is None or rank_zero_only.rank:  # pyright: ignore[reportFunctionMemberAccess]
        return nullcontext()
    return claimed(Path(folder).expanduser(), "folder")


def _saved(trainer: Trainer) -> Path | None:
    """Return the best checkpoint of a run, or else the last, or none."""
    callback = trainer.checkpoint_callback
    paths = (callback.best_model_path, callback.last_model_path) if isinstance(callback, ModelCheckpoint) else ()
    return next((Path(path) for path in paths if path), None)


def _interrupted(trainer: Trainer) -> str:
    path = _saved(trainer)
    left = "no checkpoint was saved" if path is None else f"load({shown(path)!r}) gives the best model so far"
    return f"training was interrupted at step {trainer.global_step:,}; {left}"
