"""How far a search is, and whether its time is up."""

from __future__ import annotations

import time

from rich.console import Console


class Pace:
    """Tells how far a search is, where somebody watches, and keeps to its time.

    Args:
        console: Where to tell.
        minutes: Time that there is; ``None`` for as long as it takes.
    """

    def __init__(self, console: Console, minutes: float | None = None) -> None:
        if minutes is not None and not minutes > 0:
            raise ValueError(f"expected more than 0 minutes, got {minutes:g}: set `minutes`")
        self.console, self.minutes = console, minutes
        self.since, self.begun, self.done, self.expected = time.perf_counter(), time.perf_counter(), 0, 0

    @property
    def passed(self) -> float:
        """Seconds since the beginning."""
        return time.perf_counter() - self.since

    def expect(self, trials: int) -> None:
        """Begin a part of so many trials; the time left is told of it alone."""
        self.begun, self.done, self.expected = time.perf_counter(), 0, trials

    def step(self, name: str) -> None:
        """Tell that a trial of this name is done."""
        self.done += 1
        if not self.console.is_terminal:
            return
        each = (time.perf_counter() - self.begun) / self.done
        left = max(0, self.expected - self.done) * each
        shown = f"about {left / 60:.0f} min" if left > 90 else f"about {left:.0f} s"
        self.console.print(
            f"{name}: trial {self.done} of {max(self.done, self.expected)}, {shown} left   ",
            end="\r",
            highlight=False,
        )

    def over(self, reserve: float = 0.0) -> bool:
        """Tell whether time is up, but for so many seconds."""
        return self.minutes is not None and self.passed + reserve > 60 * self.minutes
