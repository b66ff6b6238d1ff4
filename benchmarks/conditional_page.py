"""The sections of the page on series that are drawn under conditions: labels, gaps, forecasts."""

from __future__ import annotations

from typing import Any

from sections import Results, number, origin, table

from lightning_freqdiff.evaluation.backtest_report import COLUMNS


def labels_section(results: Results) -> list[str]:
    content = results.load("conditional-labels")
    if not content.get("runs"):
        return []
    classes = list(content["runs"][0]["classes"])
    rows = []
    for run in content["runs"]:
        low, high = run["interval"]
        within = "" if (low, high) == (0, 1) else f", from {low:g} to {high:g}"
        cells = [number(run["classifier"][f"balanced_{of}"], ".3f") for of in ("synthetic", "real", "chance")]
        rows.append(
            [f"{run['scale']:g}{within}", *cells, *(f"{run['classes'][name]['over']:.2f}" for name in classes)]
        )
    head = ["guidance", "trained on synthetic", "on real", "chance"]
    return [
        "## Heartbeats by class",
        "",
        origin(content),
        "Balanced accuracy, on held-out beats, of a classifier that was trained on generated beats and of one that "
        "was trained on as many real ones; then, of each class, the sliced Wasserstein distance over that of held-"
        "out beats.",
        *table([*head, *classes], rows),
    ]


def imputation_section(results: Results) -> list[str]:
    content = results.load("imputation")
    if not content.get("rows"):
        return []
    lines = [
        "## Gaps filled",
        "",
        origin(content),
        "CRPS of what was hidden, in deviations of each channel, of rows that were not trained on; less is better. "
        "`linear` asks no network; `trained` is a model that was told values as it learnt. Squared errors are those "
        "of one sample, in squares of each channel's range in training. Seconds: of all gaps.",
    ]
    for name in dict.fromkeys(row["set"] for row in content["rows"]):
        here = [row for row in content["rows"] if row["set"] == name]
        gaps = list(dict.fromkeys(row["gap"] for row in here))
        squared = all("mse" in row for row in here if "failed" not in row)
        found: dict[str, dict[str, Any]] = {}
        for row in here:
            found.setdefault(row["method"], {})[row["gap"]] = row
        rows = []
        for method, by_gap in found.items():
            cells = [_cell(by_gap.get(gap), "crps", ".4f") for gap in gaps]
            cells += [_cell(by_gap.get(gap), "mse", ".2e") for gap in gaps if squared]
            rows.append([method, *cells, f"{sum(row.get('seconds', 0) for row in by_gap.values()):.0f}"])
        head = ["method", *gaps, *(f"{gap}, squared error" for gap in gaps if squared), "seconds"]
        lines += ["", f"{name}:", *table(head, rows)]
    return lines


def _cell(row: dict[str, Any] | None, key: str, form: str) -> str:
    if row is None:
        return ""
    return "blew up" if "failed" in row else number(row.get(key), form)


SCORES = {name: title for name, title in COLUMNS.items() if name != "seconds"}


def forecasting_section(results: Results) -> list[str]:
    content = results.load("forecasting")
    if not content.get("rows"):
        return []
    lines = [
        "## Forecasts",
        "",
        origin(content),
        "From origins in the last fifth of the steps, by models of the first seven tenths, which were told values as "
        "they learnt. CRPS, energy score and MAE in training deviations; wQL and MASE by GluonTS's definitions.",
    ]
    for part in content["rows"]:
        rows = []
        for name, row in part["forecasters"].items():
            cells = [number(row.get(key), ".1%" if key.startswith("coverage") else ".4f") for key in SCORES]
            error = row.get("crps_two_se")
            cells[0] += "" if error is None else f" ± {error:.4f}"
            rows.append([name, *cells])
        lines += ["", f"{part['set']}, {part['horizon']} steps:", *table(["", *SCORES.values()], rows)]
    return lines
