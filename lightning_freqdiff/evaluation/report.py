"""What an evaluation leaves: a table on the screen, ``evaluation.json``, ``evaluation.csv`` and one page."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from rich.table import Table

from lightning_freqdiff.evaluation.findings import NOT_ASKED, Findings, Score
from lightning_freqdiff.evaluation.pictures import pictures
from lightning_freqdiff.files import plain, replace_csv, replace_json
from lightning_freqdiff.metrics import Memorization
from lightning_freqdiff.outputs import Kind
from lightning_freqdiff.reporting.hardware import describe_hardware
from lightning_freqdiff.reporting.page import Page, shown, size_of

WRITTEN = ("evaluation.json", "evaluation.csv", "report.html")
KIND = Kind("an earlier evaluation", WRITTEN)
COLUMNS = ("metric", "better", "generated", "floor: fresh real series", "ceiling: Gaussian", "position")
LISTED = 100
"""Copies that are listed, at most."""
SUSPICIOUS = 0.01
"""Probability below which chance is no longer believed."""


def cells(name: str, score: Score) -> list[Any]:
    """Return a row of the table; errors beside the value where they are known."""
    if score.value is None:  # why stands in the notes
        return [name, "higher" if score.higher_is_better else "lower", "left out", "", "", ""]
    error = score.value_two_se
    value = shown(score.value) + (f" ± {error:.2g}" if error is not None and error == error else "")
    where = "" if score.position is None else f"{round(score.position, 2) + 0.0:+.2f}"  # no -0.00
    better = "higher" if score.higher_is_better else "lower"
    return [name, better, value, shown(score.floor), shown(score.ceiling), where]


def table(found: Findings) -> Table:
    """Lay the scores out for a terminal, without those that were not asked for."""
    result = Table(box=None, header_style="bold")
    for title in COLUMNS:
        result.add_column(title, justify="left" if title in COLUMNS[:2] else "right")
    for name, score in found.scores.items():
        if score.value is not None:
            result.add_row(*cells(name, score))
    return result


def verdict(found: Memorization | None) -> str:
    """Say in words what was found of memorisation."""
    if found is None:
        return "Memorization was not told."
    copies = (
        f"{found.share_of_copies:.2%} of {found.count:,} generated series are copies of training series "
        f"({found.share_of_exact_copies:.2%} exact), of held-out series {found.held_out_share_of_copies:.2%}."
    )
    if found.p_value >= SUSPICIOUS:
        return f"No sign of memorization (p = {found.p_value:.2g}). {copies}"
    reason = "copies" if found.p_copies < SUSPICIOUS else "series nearer to training series than fresh ones are"
    return f"MEMORIZATION: {reason} beyond chance (p = {found.p_value:.2g}). {copies}"


def usefulness(found: dict[str, float]) -> str:
    """Say in words what generated series are worth to a classifier."""
    return (
        f"Train on synthetic, test on real: balanced accuracy {found['balanced_synthetic']:.3f} of a classifier that "
        f"was trained on generated series, {found['balanced_real']:.3f} of one trained on as many real ones, "
        f"{found['balanced_chance']:.3f} by chance (accuracy {found['synthetic']:.3f}, {found['real']:.3f}, "
        f"{found['chance']:.3f}); both on held-out real series."
    )


def lines(found: Findings) -> list[str]:
    """Return what is to be borne in mind: notes, and metrics that were left out although asked for."""
    left_out: dict[str, list[str]] = {}
    for name, score in found.scores.items():
        if score.note and score.note != NOT_ASKED:
            left_out.setdefault(score.note, []).append(name)
    return [*found.notes, *(f"{', '.join(names)} left out: {note}" for note, names in left_out.items())]


def copies(found: Findings) -> list[dict[str, Any]]:
    """Return the copies of training series, nearest first, by the rows of the files."""
    sets, listed = found.sets, found.memorization.copies[:LISTED] if found.memorization else ()
    rows = [(int(sets.generated_rows[one.generated]), int(sets.train_rows[one.training])) for one in listed]
    return [
        {**one._asdict(), "generated": generated, "training": training}
        for one, (generated, training) in zip(listed, rows, strict=True)
    ]


def as_json(found: Findings, origin: dict[str, Any]) -> dict[str, Any]:
    """Return plain values; ``origin`` says where the series came from."""
    copied, sets = found.memorization, found.sets
    if copied is None:
        memorized: dict[str, Any] = dict.fromkeys(field.name for field in fields(Memorization))
    else:
        memorized = {**copied.as_dict(), "copies": copies(found)}
    classes = list(sets.labels.names) if sets.labels else []
    counts = {"generated": len(sets.generated), "train": len(sets.train), "held_out": len(sets.held_out)}
    facts = {
        "series": {**counts, **found.counts},
        "steps": sets.shape[0],
        "channels": list(sets.channels),
        "held_out_from": sets.held_out_from,
        "notes": lines(found),
        "seconds": found.seconds,
        "complete": found.complete,
    }
    return {
        "metrics": {name: asdict(score) for name, score in found.scores.items()},
        "memorization": memorized,
        **({} if found.labelled is None else {"train_on_synthetic": {**found.labelled, "classes": classes}}),
        "settings": {**origin, **asdict(found.settings), **facts},
        "machine": describe_hardware("cpu"),
    }


def write(found: Findings, output: Path, origin: dict[str, Any] | None = None) -> None:
    """Replace ``evaluation.json``, ``evaluation.csv`` and ``report.html``, each in one move."""
    facts = plain(as_json(found, origin or {}))
    replace_json(output / WRITTEN[0], facts)
    names = ["metric", *(field.name for field in fields(Score))]
    replace_csv(output / WRITTEN[1], names, [{"metric": k, **one} for k, one in facts["metrics"].items()])
    _page(found, facts).write(output / WRITTEN[2])


def _page(found: Findings, facts: dict[str, Any]) -> Page:
    sets, counts = found.sets, found.counts
    page = Page("Generated series beside real ones")
    page.text(
        f"{len(sets.generated):,} generated series of {size_of(*sets.shape)}, against "
        f"{len(sets.train):,} training series. Floor: {sets.held_out_from}. Each figure is that of "
        f"{counts['compared']:,} series, drawn by the seed, against {counts['reference']:,} training series."
    )
    add_scores(page, found)
    add_memorization(page, found)
    if found.labelled is not None:
        page.heading("Labels")
        page.text(usefulness(found.labelled))
    for title, figure, alt in pictures(found):
        page.heading(title)
        page.text(alt)
        page.figure(figure, alt)
    page.heading("Settings")
    page.settings({"settings": facts["settings"], "machine": facts["machine"]})
    return page


def add_scores(page: Page, found: Findings) -> None:
    """Add the metrics, and what their columns mean."""
    page.text(
        "Read each figure between its floor, what fresh real series score (no generator can be expected to do "
        "better), and its ceiling, what a Gaussian with the training set's mean and covariance scores (the linear "
        "model that a network must beat): position 0 is at the floor, 1 at the ceiling; a little beyond is chance."
    )
    page.table(COLUMNS, [cells(name, score) for name, score in found.scores.items() if score.note != NOT_ASKED])
    page.text(
        "After ±: twice the standard error over directions, coordinates, channels or repetitions, not that of "
        "another draw of series. No position: the metric hardly tells the Gaussian from real series. Figures of "
        "other counts, settings or data do not compare."
    )
    for line in lines(found):
        page.text(f"Note: {line}")


def add_memorization(page: Page, found: Findings) -> None:
    """Add whether series were copied, and which."""
    page.heading("Memorization")
    page.text(verdict(found.memorization))
    if listed := copies(found):
        rows = [[c["generated"], c["training"], c["distance"], "yes" if c["exact"] else "no"] for c in listed[:20]]
        page.table(["generated series", "training series", "distance (deviations)", "exact"], rows)
