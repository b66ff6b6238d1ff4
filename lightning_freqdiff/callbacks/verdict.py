"""What a loss is worth beside that of the linear model, in a line for people."""

from __future__ import annotations

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping

NOTHING = 0.005
"""Share of the linear model's error that is shown as none, 0 %."""


def verdict(gain: float) -> str | None:
    """Say what to do where a network removes none of the linear model's error; nothing where it does.

    Args:
        gain: One less the ratio of the two losses.

    Examples:
        >>> verdict(0.2)
        >>> verdict(-0.1)[:27]
        'no better than a Gaussian: '
    """
    if gain >= NOTHING:
        return None
    share = "none" if gain <= 0 else "hardly any"
    return (
        f"no better than a Gaussian: the network removes {share} of the linear model's error on held-out series; try "
        "more series, a network that learns less by heart (smaller, with dropout or more `model.weight_decay`), or "
        "fewer `trainer.max_steps`"
    )


def stopped_early(trainer: Trainer) -> str | None:
    """Say that early stopping ended a run, and what it waited for; nothing where it did not."""
    for callback in trainer.callbacks:  # pyright: ignore[reportAttributeAccessIssue]
        if isinstance(callback, EarlyStopping) and callback.wait_count >= callback.patience:
            return f"early: {callback.monitor} had not fallen for {callback.wait_count} validations"
    return None
