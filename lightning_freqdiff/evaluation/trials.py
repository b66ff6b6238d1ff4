"""One setting of a family, measured; and all of them, in a picture and a file beside the preset."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_freqdiff.components import as_settings
from lightning_freqdiff.evaluation.damage import Damage
from lightning_freqdiff.evaluation.families import Family
from lightning_freqdiff.files import replace_json, replacing
from lightning_freqdiff.reporting.frontier import frontier
from lightning_freqdiff.sampling.loop import Sampling


@dataclass
class Trial:
    """One setting of a family, measured.

    Args:
        family: Which.
        knob: Its setting.
        seconds: For all samples.
        count: Samples.
        calls: Network calls of a sample.
        damage: What it did to them.
        fresh: Whether on noise that the search has not seen.
        alone: Seconds of one sample by itself, where that was measured.
    """

    family: Family
    knob: float
    seconds: float
    count: int
    calls: float
    damage: Damage
    fresh: bool = False
    alone: float | None = None

    @property
    def value(self) -> float:
        """Damage as measured."""
        return self.damage.value

    @property
    def upper(self) -> float:
        """Bound of the damage."""
        return self.damage.upper

    def row(self, sampling: Sampling) -> dict[str, Any]:
        """Return what is written of it; ``sampling`` is that of the uncached samples."""
        found = self.family.contender(self.knob, sampling)
        settings: dict[str, Any] = {"precision": self.family.precision, "compiled": self.family.compiled or None}
        if found.policy is None:
            steps = found.sampling
            settings |= {"solver": as_settings(steps.solver), "grid": steps.grid, "num_steps": steps.num_steps}
        else:
            settings["cache"] = as_settings(found.policy)
        return {
            "family": self.family.label,
            "knob": self.knob,
            "samples": self.count,
            "fresh": self.fresh,
            "network_calls": self.calls,
            "milliseconds": 1000 * self.seconds / self.count,
            "milliseconds_alone": None if self.alone is None else 1000 * self.alone,
            "damage": self.damage.value,
            "standard_error": self.damage.error,
            "upper": self.damage.upper,
            "settings": {key: value for key, value in settings.items() if value is not None},
        }


def beside(preset: Path) -> tuple[Path, Path]:
    """Return where the picture and the trials of a preset are written."""
    return preset.with_name(f"{preset.stem}-frontier.png"), preset.with_name(f"{preset.stem}-trials.json")


def write(preset: Path, facts: dict[str, Any], trials: list[Trial], winner: Trial | None, sampling: Sampling) -> None:
    """Write all trials and their picture beside a preset, each in one move.

    Args:
        preset: Path of the preset, whether it came to be or not.
        facts: ``metric``, ``tolerance``, ``batch_size``, ``uncached`` (milliseconds), and what else is known.
        trials: All of them.
        winner: The one that was confirmed, if any.
        sampling: That of the uncached samples.
    """
    picture, table = beside(preset)
    rows = [{**trial.row(sampling), "winner": trial is winner} for trial in trials]
    replace_json(table, {**facts, "trials": rows})
    figure = frontier(rows, facts["uncached"], facts["metric"], facts["tolerance"], facts["batch_size"])
    with replacing(picture) as file:
        figure.savefig(file, format="png", dpi=130)
