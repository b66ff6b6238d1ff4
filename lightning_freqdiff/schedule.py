"""How far a run is, by steps or by the clock, and the learning rate there: up in a line, then down as a cosine."""

from __future__ import annotations

import math
from collections.abc import Callable

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Timer

ENDLESS = 10**6
"""Steps that stand for a run which the clock alone ends."""


def total_steps(trainer: Trainer) -> int:
    """Return the steps that a run will take if the clock does not end it."""
    steps = trainer.estimated_stepping_batches
    return max(1, int(steps)) if math.isfinite(steps) else ENDLESS


def clock_share(trainer: Trainer) -> float:
    """Return the share of its time that a run has used, by its furthest timer; 0 without a limit."""
    timers = [c for c in trainer.callbacks if isinstance(c, Timer)]  # pyright: ignore[reportAttributeAccessIssue]
    return max((elapsed_share(timer) for timer in timers), default=0.0)


def elapsed_share(timer: Timer) -> float:
    """Return the share of its time that a timer has seen pass; 0 without a limit."""
    left = timer.time_remaining()
    return 0.0 if left is None else min(1.0, timer.time_elapsed() / max(1e-9, timer.time_elapsed() + left))


def at_end(trainer: Trainer) -> bool:
    """Tell whether a run takes no further step."""
    return trainer.should_stop or trainer.global_step >= total_steps(trainer)


def warmup_cosine(trainer: Trainer, warmup: float) -> Callable[[int], float]:
    """Return the factor on the learning rate at every step of a run.

    Under ``trainer.max_time`` it follows whichever is further on, steps or clock, and so reaches its end either way.

    Args:
        trainer: Knows how many steps there will be, and how much time.
        warmup: Share of the run over which the learning rate rises.
    """
    total = total_steps(trainer)
    rise = max(1, round(warmup * total))

    def factor(step: int) -> float:
        place = max(float(step), total * clock_share(trainer))
        if place < rise:
            return (place + 1) / rise
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (place - rise) / max(1, total - rise))))

    return factor
