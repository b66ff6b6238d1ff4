"""Charge and discharge cycles of lithium-ion cells: NASA PCoE battery data, Saha and Goebel 2007.

Prepared as by Crabbé et al., arXiv 2402.05933, from the cleaned tables at Kaggle: cycles that are long enough and
have no gap are averaged in bins of time.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from lightning_freqdiff.data.readers.raw_files import RawFiles
from lightning_freqdiff.data.readers.table import REMEDY, published_columns, read_columns
from lightning_freqdiff.data.sets.named import NamedData

TABLES = 7_565
"""Cycles in the cleaned data set, impedance measurements among them."""


@dataclass(frozen=True)
class Cycle:
    """How a kind of cycle is brought to one length.

    Attributes:
        channels: Columns that are kept.
        width: Seconds in a bin; a longer gap between two readings refuses the cycle.
        cutoff: Seconds that a cycle must exceed, and that are kept of it.
        stride: Every how many bins are kept.
    """

    channels: tuple[str, ...]
    width: int
    cutoff: int
    stride: int = 1


# The temperature of charge cycles is left out, as in the papers.
CYCLES = {
    "charge": Cycle(("Voltage_measured", "Current_measured", "Current_charge", "Voltage_charge"), 10, 5000, 2),
    "discharge": Cycle(
        ("Voltage_measured", "Current_measured", "Temperature_measured", "Current_load", "Voltage_load"), 15, 1995
    ),
}


class NASA(NamedData):
    """NASA battery cycles: charge (251 steps, 4 channels) or discharge (134 steps, 5 channels).

    The papers split at random, so cycles of one cell are in all parts; `split_by: battery_id` keeps them together.

    Args:
        cycle: Which cycles: charge or discharge.
        **kwargs: Settings of `NamedData`.
    """

    title: ClassVar[str] = "nasa"
    kaggle: ClassVar[str] = "patrickfleith/nasa-battery-dataset"
    groups: ClassVar[tuple[str, ...]] = ("battery_id",)

    def __init__(self, cycle: Literal["charge", "discharge"] = "charge", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cycle = cycle

    @property
    def variant(self) -> str:
        """Name of the prepared arrays."""
        return self.cycle

    @property
    def archives(self) -> list[str]:
        """Names of files with ready arrays."""
        return [f"nasa_{self.cycle}.npz"]

    def raw_files(self) -> RawFiles:
        """Name the table of tables, and the folder of the rest."""
        return RawFiles([Path("metadata.csv")], folder=Path("data"), pattern="*.csv", inside=Path("cleaned_dataset"))

    def prepare(self, files: list[Path], downloaded: bool) -> dict[str, np.ndarray]:
        """Bin the cycles of one kind, in the order of their file names."""
        metadata, tables = files[0], {file.name: file for file in files[1:]}
        cells = read_metadata(metadata)
        self.check_count(len(cells), TABLES, f"cycles in {metadata}", downloaded)
        missing = sorted(set(cells) - set(tables))
        if missing:
            raise FileNotFoundError(
                f"{metadata}: expected the {len(cells)} tables it names beside it in data/, but {len(missing)} are "
                f"not there, the first {missing[0]}; put them there, or point `data.path` to a whole copy"
            )
        kept: dict[str, np.ndarray] = {}
        for name in sorted(name for name, (kind, _) in cells.items() if kind == self.cycle):
            series = bin_cycle(tables[name], CYCLES[self.cycle])
            if series is not None:
                kept[name] = series
        if not kept:
            raise ValueError(
                f"{metadata}: expected {self.cycle} cycles of more than {CYCLES[self.cycle].cutoff} s without a gap, "
                f"got none; {REMEDY}"
            )
        return {
            "x": np.stack(list(kept.values())),
            "columns": np.array(CYCLES[self.cycle].channels),
            "filename": np.array(list(kept)),
            "battery_id": np.array([cells[name][1] for name in kept]),
        }


def read_metadata(path: Path) -> dict[str, tuple[str, str]]:
    """Return kind and cell of each table, by its name."""
    table = published_columns(path, (), ("filename", "type", "battery_id"))
    return {str(name): (str(kind), str(cell)) for name, kind, cell in zip(*table.values(), strict=True)}


def bin_cycle(path: Path, cycle: Cycle) -> np.ndarray | None:
    """Average a cycle in bins `(k - 1) w < t <= k w`: `(N, M)`, or None where it is too short or has a gap."""
    table = read_columns(path, ["Time", *cycle.channels])
    time, values = table[:, 0], table[:, 1:]
    if not (time.max() > cycle.cutoff and np.diff(time).max() <= cycle.width):
        return None
    inside = (time < cycle.cutoff) & (time > -cycle.width)
    bins = np.searchsorted(np.arange(0, cycle.cutoff + 1, cycle.width), time[inside], side="left")
    size = cycle.cutoff // cycle.width + 1
    count = np.bincount(bins, minlength=size)
    with np.errstate(invalid="ignore"):  # a bin without a reading becomes NaN, and the cycle is left out
        means = np.stack([np.bincount(bins, column, size) for column in values[inside].T], axis=1) / count[:, None]
    series = means[:: cycle.stride].astype(np.float32)
    return series if np.isfinite(series).all() else None
