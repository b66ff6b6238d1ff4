"""The sections of the page on how real samples are: every set, and the colour of the noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sections import Results, number, table

PUBLISHED = {
    "stocks": "Diffusion-TS 0.067, FM-TS 0.019",
    "energy": "Diffusion-TS 0.122, FM-TS 0.053",
    "ett": "Diffusion-TS 0.061, FM-TS 0.011",
    "sines": "Diffusion-TS 0.006, FM-TS 0.005",
}
"""Discriminative scores of windows of 24 steps as published, after whole trainings on GPUs."""


DIFFUSION_TS = {
    "sines": (0.006, 0.006, 0.015, 0.093),
    "stocks": (0.067, 0.147, 0.004, 0.036),
    "ett": (0.061, 0.116, 0.049, 0.119),
    "energy": (0.122, 0.089, 0.856, 0.250),
}
"""What Diffusion-TS (Yuan and Qiao, arXiv 2403.01742) publishes of windows of 24 steps, as ordered in ``SCORES``."""
SCORES = ("discriminative", "context_fid", "correlational", "predictive")


def beside(row: dict[str, Any], name: str) -> str:
    """Show a score, twice its standard error where it was repeated, and in brackets what fresh real rows score."""
    floor, error = row.get(f"{name}_floor"), row.get(f"{name}_two_se")
    chance = "" if error is None else f" ± {error:.3f}"
    return number(row.get(name), ".3f") + chance + (f" ({floor:.3f})" if floor is not None else "")


def quality_section(results: Results) -> list[str]:
    runs = results.load("quality").get("runs", [])
    if not runs:
        return []
    lines = [
        "## How real samples are",
        "",
        "`make quality`. Each row is one training of so many minutes of wall clock, on threads that other jobs may "
        "have shared; the steps say how much of it was training. Samples by 30 steps of Heun's method on EDM's grid. "
        "Sliced Wasserstein distance (time) of a set of samples over that of as many fresh rows (the floor), where ± "
        "stands means over several sets, with twice the standard error of ours; the same for the Gaussian with the "
        "training set's covariance, the linear model. "
        "Output: what the network is asked for, a remainder of unit variance for every frequency (`wiener`) or for "
        "every step of time (`steps`, the default). Brackets: fresh real rows. Windows of 24 "
        "steps by the published protocol on 3,000 samples, all else by the project's settings on 1,000. Scores with "
        "± are means of five repetitions on the same samples. `log`: the logarithm of values is learnt, as is "
        "the default where they span orders of magnitude; what is measured are the values.",
    ]
    head = ["set", "network", "output", "seed", "minutes", "steps", "SW over floor", "Gaussian"]
    head += ["discriminative", "published", "predictive", "Context-FID", "correlation"]
    rows = []
    for row in runs:
        floor = row["floor"]["sw_time"]
        seed, minutes, steps = (f"{row[name]:g}" for name in ("seed", "minutes", "steps"))
        error = row["sw_time_two_se"] / floor if "sets" in row and row["sw_time_two_se"] is not None else None
        chance = "" if error is None else f" ± {error:.2f}"
        over = [f"**{row['over_floor']:.2f}**{chance}", number(row["ceiling"]["sw_time"] / floor, ".2f")]
        scores = [beside(row, name) for name in ("discriminative", "predictive", "context_fid", "correlational")]
        rows.append([row["set"], row["network"], output(row), seed, minutes, steps, *over, scores[0]])
        rows[-1] += [PUBLISHED.get(row["set"], ""), *scores[1:]]
    lines += table(head, rows)
    for row in runs:
        if "flat_tails" in row:
            ours, real = row["flat_tails"], row["flat_tails_real"]
            who = f"{row['network']}, {output(row)}, seed {row['seed']}"
            lines += [f"Heartbeats with a flat tail, {who}: {ours:.1%}, of real ones {real:.1%}.", ""]
    for row in runs:
        if "large" in row:
            lines += [at_large(row), ""]
    return [*lines, *against_diffusion_ts(runs), *plates(results, runs)]


PAPER = {"ecg": "The E²-CRF paper (arXiv 2604.22901) has 0.015 (time) and 0.012 (frequency), in units of its own."}
"""What is published of 10,000 samples."""


def at_large(row: dict[str, Any]) -> str:
    """Say how far as many samples are as papers measure."""
    large = row["large"]
    shown = (
        f"{large[f'samples_{d}']:.4f} in {d} (other real rows {large[f'floor_{d}']:.4f}, the Gaussian "
        f"{large[f'gaussian_{d}']:.4f})"
        for d in ("time", "frequency")
    )
    return (
        f"{row['set']}, {row['network']}, {output(row)}, seed {row['seed']}: sliced Wasserstein distance of "
        f"{large['count']:,} samples to as many real rows, which is half of all: {', '.join(shown)}. "
        f"{PAPER.get(row['set'], '')}"
    ).strip()


def against_diffusion_ts(runs: list[dict[str, Any]]) -> list[str]:
    """Lay published scores beside ours, by the same protocol, of what was trained with the standard network."""
    known = sorted(runs, key=lambda row: row.get("parametrization") == "steps")  # the default, where there are both
    ours = {row["set"]: row for row in known if row["set"] in DIFFUSION_TS and "discriminative" in row}
    if not ours:
        return []
    head = ["set", *(f"{name.replace('_', ' ')}: {who}" for name in SCORES for who in ("ours (real)", "published"))]
    rows = []
    for name, row in ours.items():
        cells = [
            (beside(row, score), f"{known:.3f}") for score, known in zip(SCORES, DIFFUSION_TS[name], strict=True)
        ]
        rows.append([name, *(cell for pair in cells for cell in pair)])
    return [
        "Windows of 24 steps beside what Diffusion-TS publishes after its whole training; less is better. Both are "
        "means of five repetitions of the scores. Our predictive score of sines is in twice their unit, as "
        "windows are scaled to [0, 1], and theirs lie in [0.5, 1].",
        "",
        *table(head, rows),
    ]


def plates(results: Results, runs: list[dict[str, Any]]) -> list[str]:
    """Show the plates that lie beside the figures."""
    lines = []
    for name in dict.fromkeys((row["set"], row["network"]) for row in runs if row["seed"] == 0):
        path = Path(f"{results.prefix}plate-{'-'.join(name)}.png")
        if (results.folder / path).is_file():
            lines += [f"![{name[0]}: generated above, real below](results/{path})", ""]
    return lines


def output(row: dict[str, Any]) -> str:
    """Return what the network of a row is asked for; the Wiener remainder was the default of old rows."""
    return row.get("parametrization", "wiener") + ", log" * row.get("logarithm", False)


def colour_section(results: Results) -> list[str]:
    runs = results.load("colour").get("runs", [])
    if not runs:
        return []
    lines = [
        "## When is frequency diffusion better?",
        "",
        "The same network and budget under noise of another colour: 1 drowns all frequencies alike, as the papers of "
        "frequency diffusion do, 0 is white in the data's own units. In the domain `time` a transformer's tokens are "
        "steps. One training each, of so many steps, and one to four sets of 500 to 3,000 samples. Under white "
        "noise, frequency and time are the same diffusion; what differs is what the network is asked for, its "
        "output: a remainder of unit variance for every coordinate of the domain (`wiener`), or for every step of "
        "time (`steps`).",
    ]
    head = ["set", "network", "domain", "output", "colour", "steps", "SW over floor", "Gaussian", "flat tails"]
    rows = []
    for row in sorted(runs, key=lambda row: (row["set"], row["network"], row["domain"], output(row), row["colour"])):
        shown = [row["set"], row["network"], row["domain"], output(row), f"{row['colour']:g}", f"{row['steps']:g}"]
        linear = row["ceiling"]["sw_time"] / row["floor"]["sw_time"]
        rows.append([*shown, f"{row['over_floor']:.2f}", f"{linear:.2f}", number(row.get("flat_tails"), ".1%")])
    return [*lines, *table(head, rows)]


def form_section(results: Results) -> list[str]:
    runs = [row for row in results.load("quality").get("runs", []) if row["network"] == "unet"]
    known = {(row["set"], row["seed"], output(row)): row for row in runs}
    both = sorted({key[:2] for key in known if (*key[:2], "wiener") in known and (*key[:2], "steps") in known})
    if not both:
        return []
    lines = [
        "## A remainder for every frequency, or for every step of time?",
        "",
        "The U-Net's output as `--model.parametrization wiener` and `steps`, its default, have it, in frequency "
        "diffusion under white noise: rows of the first table with the same seeds and steps.",
    ]
    rows = []
    for name, seed in both:
        pair = [known[name, seed, form] for form in ("wiener", "steps")]
        shown = [name, str(seed), f"{pair[0]['steps']:g}", f"{pair[1]['steps']:g}"]
        shown += [number(row.get("over_floor"), ".2f") for row in pair]
        shown += [number(row.get("flat_tails"), ".1%") for row in pair]
        rows.append([*shown, number(pair[1].get("flat_tails_real"), ".1%")])
    head = ["set", "seed", "training steps: wiener", "steps", "SW over floor: wiener", "steps"]
    return [*lines, *table([*head, "flat tails: wiener", "steps", "real"], rows)]
