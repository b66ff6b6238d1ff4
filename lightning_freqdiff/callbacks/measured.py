"""What is measured while a predict run draws: kept with every unit, so that a kill loses none of it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Trainer

from lightning_freqdiff.callbacks.run_folder import RunFolder
from lightning_freqdiff.files import read_arrays, replace_arrays
from lightning_freqdiff.hooks import SamplingCallback
from lightning_freqdiff.module import ScoreModule

Arrays = dict[str, np.ndarray]


class Measured:
    """What the callbacks of a run measured, its time and its samples, over all starts of the run and all ranks.

    Each start leaves a file for each rank. It holds what was measured with the last unit and without it, and is
    written before the unit's line in the journal: which of both counts is seen by whether that line is there.

    Args:
        folder: The run's folder, opened.
        trainer: Knows the callbacks, and which rank this is.
        module: What is drawn from.
    """

    def __init__(self, folder: RunFolder, trainer: Trainer, module: ScoreModule) -> None:
        self.callbacks = [c for c in trainer.callbacks if isinstance(c, SamplingCallback)]  # pyright: ignore
        self.earlier, paths = _read(folder), _paths(folder)
        start = 1 + max((int(path.stem.split("-")[1]) for path in paths), default=-1)
        self.start, self.rank = trainer.strategy.broadcast(start), trainer.global_rank
        trainer.strategy.barrier("measured before")  # all have read before one writes
        self.path = folder.path / f"measured-{self.start}-{self.rank}.npz"
        self.drawn, self.before, self.since = 0, {}, time.perf_counter()
        for number, callback in enumerate(self.callbacks):
            mine = f"{number}."
            states = [{k.removeprefix(mine): a for k, a in one.items() if k.startswith(mine)} for one in self.earlier]
            callback.take_up(module, [state for state in states if state])

    def add(self, first: int, count: int) -> None:
        """Keep what was measured up to a unit of ``count`` samples from number ``first``, yet to be written."""
        self.drawn += count
        now = {f"{i}.{name}": a for i, c in enumerate(self.callbacks) for name, a in c.state().items()}
        now |= {"drawn": np.array(self.drawn), "seconds": np.array(time.perf_counter() - self.since)}
        both = {**{f"before/{k}": a for k, a in self.before.items()}, **{f"after/{k}": a for k, a in now.items()}}
        replace_arrays(self.path, {**both, "first": np.array(first), "start": np.array(self.start)})
        self.before = now

    def facts(self, drawn: int) -> dict[str, Any]:
        """Return samples and seconds of all starts, and the callbacks' reports.

        Args:
            drawn: Samples of this start, on all ranks.
        """
        longest: dict[int, float] = {}  # the ranks of a start draw at the same time
        for one in self.earlier:
            start = int(one["start"])
            longest[start] = max(longest.get(start, 0.0), float(one["seconds"]))
        return {
            "samples_drawn": drawn + sum(int(one["drawn"]) for one in self.earlier),
            "seconds": round(time.perf_counter() - self.since + sum(longest.values()), 3),
            "reports": [report for c in self.callbacks if (report := c.report())],
        }


def _paths(folder: RunFolder) -> list[Path]:
    return sorted(folder.path.glob("measured-*.npz"))


def _read(folder: RunFolder) -> list[Arrays]:
    """Return what earlier starts measured for the units that came to be on disk."""
    done, found = {(unit.get("start"), unit["first"]) for unit in folder.journal()}, []
    for path in _paths(folder):
        _, arrays = read_arrays(path)
        when = "after/" if (int(arrays["start"]), int(arrays["first"])) in done else "before/"
        state = {name.removeprefix(when): a for name, a in arrays.items() if name.startswith(when)}
        found += [{**state, "start": arrays["start"]}] if state else []
    return found
