"""What a loss is worth beside that of the linear model, in a line for people."""

from __future__ import annotations

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
    return (
        "no better than a Gaussian: the network removes none of the linear model's error on held-out series; try "
        "more series, a network that learns less by heart (smaller, with dropout or more `model.weight_decay`), or "
        "fewer `trainer.max_steps`"
    )
