"""What `backtest` leaves: a table on the screen, ``backtest.json``, ``backtest.csv`` and one page with pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

from lightning_freqdiff.evaluation.backtest import LEVELS, Backtest
from lightning_freqdiff.files import plain, replace_csv, replace_json
from lightning_freqdiff.outputs import Kind
from lightning_freqdiff.reporting.fans import LEVELS as BANDS
from lightning_freqdiff.reporting.fans import fans
from lightning_freqdiff.reporting.forecasts import calibration
from lightning_freqdiff.reporting.hardware import describe_hardware
from lightning_freqdiff.reporting.page import Page, shown

WRITTEN = ("backtest.json", "backtest.csv", "report.html")
KIND = Kind("an earlier backtest", WRITTEN)
COLUMNS = {
    "crps": "CRPS",
    "energy_score": "energy score",
    "weighted_quantile_loss": "wQL",
    "weighted_quantile_loss_sum": "wQL of the sum",
    "mae": "MAE",
    "mase": "MASE",
    **{f"coverage_{round(100 * level)}": f"within {round(100 * level)} %" for level in LEVELS},
    "seconds": "seconds",
}
MEANING = (
    "CRPS, energy score and MAE (of the median) are in training deviations of each channel; less is better. wQL is "
    "the weighted quantile loss, over 0.05, 0.1 ... 0.95 and in the data's units, of all channels and of their sum: "
    "CRPS-sum, as GluonTS has it. MASE is the error over that of the season before within the past. Within: the "
    "share of values inside central intervals, right where it is their level. After ±: twice the standard error over "
    "origins, as if these were independent."
)
LOOKED_BACK = 2
"""Horizons of the past that are shown before a forecast."""


def columns(found: Backtest) -> dict[str, str]:
    """Return keys and titles of what is told of every forecaster."""
    return {key: title for key, title in COLUMNS.items() if any(key in row for row in found.rows.values())}


def cells(found: Backtest, name: str) -> list[str]:
    """Return a row of the table."""
    row = found.rows[name]
    texts = {key: shown(row[key]) for key in columns(found)}
    texts |= {key: f"{row[key]:.1%}" for key in texts if key.startswith("coverage")}
    if (error := row.get("crps_two_se")) is not None:
        texts["crps"] += f" ± {error:.2g}"
    return [name, *texts.values()]


def table(found: Backtest) -> Table:
    """Lay the scores out for a terminal."""
    result = Table(box=None, header_style="bold")
    for title in ("", *columns(found).values()):
        result.add_column(title, justify="right" if title else "left")
    for name in found.rows:
        result.add_row(*cells(found, name))
    return result


def summary(found: Backtest) -> str:
    """Say in words what was forecast."""
    rolling = found.rolling
    return (
        f"{len(rolling.origins):,} forecasts of {rolling.horizon} steps, {found.num_samples} samples each. Split: "
        f"{rolling.split}."
    )


def as_json(found: Backtest, origin: dict[str, Any]) -> dict[str, Any]:
    """Return plain values; ``origin`` says what was asked."""
    rolling = found.rolling
    facts = {
        "horizon": rolling.horizon,
        "num_samples": found.num_samples,
        "season": found.season,
        "channels": list(rolling.channels),
        "training_deviation": rolling.deviation.tolist(),
        "split": rolling.split,
        "origins": [{"series": one.series, "step": one.step} for one in rolling.origins],
        "notes": found.notes,
    }
    return {"forecasters": found.rows, "settings": {**origin, **facts}, "machine": describe_hardware("cpu")}


def write(found: Backtest, output: Path, origin: dict[str, Any] | None = None) -> None:
    """Replace ``backtest.json``, ``backtest.csv`` and ``report.html``, each in one move."""
    facts = plain(as_json(found, origin or {}))
    replace_json(output / WRITTEN[0], facts)
    names = ["forecaster", *(key for key in COLUMNS if key in columns(found)), "crps_two_se"]
    replace_csv(
        output / WRITTEN[1],
        names,
        [{k: v for k, v in {"forecaster": name, **row}.items() if k in names} for name, row in found.rows.items()],
    )
    page = Page("Forecasts beside what came")
    page.text(summary(found))
    page.table(["", *columns(found).values()], [cells(found, name) for name in found.rows])
    page.text(MEANING)
    for note in found.notes:
        page.text(f"Note: {note}")
    for title, figure, alt in pictures(found):
        page.heading(title)
        page.text(alt)
        page.figure(figure, alt)
    page.heading("Settings")
    page.settings({"settings": facts["settings"], "machine": facts["machine"]})
    page.write(output / WRITTEN[2])


def pictures(found: Backtest) -> list[tuple[str, Figure, str]]:
    """Return the figures, each with a title and with words for what it shows."""
    inside = {
        name: {float(level): share for level, share in row["calibration"].items()} for name, row in found.rows.items()
    }
    errors = {name: row["crps_by_step"] for name, row in found.rows.items()}
    curve = (
        "Calibration, and error by step",
        calibration(inside, errors),
        "Share of values within central intervals: on the dotted line is right, below it too narrow. Error at each "
        "step of the horizon, over all origins and channels.",
    )
    if found.fans is None:
        return [curve]
    alt = (
        "Before the forecast what was known; then the median, bands of half and of four fifths of the samples, and, "
        "broken, what came."
    )
    return [("Forecasts", _fans(found), alt), curve]


def _fans(found: Backtest) -> Figure:
    assert found.fans is not None
    which, samples = found.fans
    rolling, steps = found.rolling, LOOKED_BACK * found.rolling.horizon
    length = steps + rolling.horizon
    observed = rolling.windows(which, length).numpy()
    truth = np.concatenate([observed[:, :steps], rolling.targets(which)], axis=1)
    middle = np.quantile(samples.numpy(), BANDS, axis=1)
    quantiles = np.repeat(observed[None], len(BANDS), axis=0)
    quantiles[:, :, steps:] = middle
    return fans(observed, quantiles, rolling.channels, truth)
