"""Write benchmarks/README.md, with tables and figures, from the JSON files that the other scripts left.

python benchmarks/page.py
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comparisons import comparisons_section, fewer_steps_section
from matplotlib.figure import Figure

HERE = Path(__file__).parent
PREFACE = """# Benchmarks

This page is written by `python benchmarks/page.py` from the files in `results/`: do not edit it. `make bench`
measures what two cores can in a quarter of an hour, `make bench-gpu` the whole set on a GPU. Quote ratios, since
cores are shared and noisy. Data sets are found through `FREQDIFF_DATA`.

How far each figure can be trusted:

- `engine.py`, `peers.py`, `limits.py`, `training.py` and `metrics.py` report medians of alternating runs after a
  warm-up. `peers.py` times ways that run the whole network at every step over fewer steps and scales them, where the
  table says so.
- Without a checkpoint, `make bench` trains a small model for a minute or two. It has learnt little beside the Wiener
  filter, which every cache of ours has for free: its speedups flatter them, and count for no goal.
- `caches.py` times each cache **once**, against the median of uncached runs repeated in between. A few tenths in a
  speedup mean nothing. 32 samples are few for a sliced Wasserstein distance, and only its change at equal noise is of
  use; the same holds for `peers.py`.
- `quality-ecg.json`, and the checkpoint that the E²-CRF tables use, were made by an earlier commit, whose log-normal
  times were clamped and not truncated; machine paths were taken out of its settings by hand. Other jobs shared the
  cores while it trained, so its `training_seconds` is no measure of speed; the same holds for `score` in
  `quality-nasa.json`.
- The quality figures are one training and one set of samples each. Between seeds, 128 samples moved by ±20 %.
"""
ENDING = (
    "`reference.py` is the published design, written from the papers; `demo.py` is the second half of `make demo`."
)
E2CRF = (
    "`python benchmarks/caches.py --ckpt_path C --data ecg_mitbih --tables ablation trade_off choices --samples 32"
)
COMMANDS = [
    (
        "every cache, and solvers with fewer steps, on a checkpoint",
        "`python -m lightning_freqdiff compare --ckpt_path C --callbacks ... --data ... --output ...`",
        ("compare-ecg_mitbih/compare.json", "compare-nasa_charge/compare.json"),
    ),
    (
        "the Wiener cache against fewer steps, over many samples",
        "`python benchmarks/fewer_steps.py --ckpt_path C --data ecg_mitbih --output ...`",
        ("fewer-steps-ecg.json", "fewer-steps-charge.json"),
    ),
    (
        "sample quality by parametrisation",
        "`python benchmarks/quality.py --data ecg_mitbih --parametrizations wiener --steps 5600 --output ...`",
        ("quality-ecg.json", "quality-nasa.json"),
    ),
    (
        "one network call, one step, memory, against the reference design",
        "`python benchmarks/engine.py --output ...`",
        ("engine.json",),
    ),
    (
        "reference design, published cache and ours side by side",
        "`python benchmarks/peers.py --ckpt_path C --data D`",
        ("peers.json",),
    ),
    ("share of the machine's peak, growth of cost", "`python benchmarks/limits.py`", ("limits.json",)),
    ("training throughput, steps to a loss", "`python benchmarks/training.py --to_loss`", ("training.json",)),
    ("memory of training from a file on disk", "`python benchmarks/memory.py`", ("memory.json",)),
    (
        "E²-CRF: ablations, trade-off, choices left open",
        f"{E2CRF} --batch 32 --output ...`",
        ("e2crf.md",),
    ),
    (
        "E²-CRF: the paper's Table 3 grid",
        "the same with `--tables paper_grid --samples 4 --batch 4`",
        ("e2crf-paper-grid.md",),
    ),
    (
        "E²-CRF at 200 and at 50 steps",
        "the same with `--tables ablation --steps 200` (or 50)",
        ("e2crf-200-steps.md", "e2crf-50-steps.md"),
    ),
    (
        "E²-CRF at batch 1",
        "the same with `--tables ablation --samples 1 --batch 1`",
        ("e2crf-batch-1.md",),
    ),
    (
        "sliced Wasserstein against POT",
        "`python benchmarks/metrics.py --threads 2 --output ...`",
        ("metrics.json",),
    ),
]
MISSING = "not measured"


@dataclass
class Results:
    """The JSON files of one device: those of a GPU begin with ``gpu-``."""

    folder: Path
    prefix: str

    def load(self, name: str) -> dict[str, Any]:
        """Return what a script left, or nothing."""
        path = self.folder / f"{self.prefix}{name}.json"
        return json.loads(path.read_text()) if path.is_file() else {}

    def peer(self, batch: int, *names: str) -> list[dict[str, Any]]:
        """Return rows of the comparison with the peers at one batch size, by name or kind."""
        table = self.load("peers").get("batches", {}).get(str(batch), {"rows": []})
        return [row for row in table["rows"] if {row["name"], row["kind"]} & set(names)]


@dataclass
class Value:
    """What was measured.

    Args:
        number: The value.
        note: What must be said with it.
        counts: Whether it was got under the goal's own terms.
    """

    number: float
    note: str = ""
    counts: bool = True


@dataclass
class Bar:
    """A goal.

    Args:
        what: What is measured.
        least: The goal on two cores, and on one H100.
        value: Returns what was measured, if anything was.
        percent: Whether it is a share.
    """

    what: str
    least: tuple[float, float]
    value: Callable[[Results], Value | None]
    percent: bool = False

    def show(self, number: float) -> str:
        """Format a value."""
        return f"{number:.0%}" if self.percent else f"{number:.3g}×"

    def cell(self, results: Results, least: float) -> str:
        """Say what was reached, and whether it is enough."""
        found = self.value(results)
        if found is None:
            return MISSING
        verdict = (
            "reached" if found.counts and found.number >= least else "missed" if found.counts else "does not count"
        )
        return "; ".join(part for part in (self.show(found.number), found.note, f"**{verdict}**") if part)


def uncached(batch: int) -> Callable[[Results], Value | None]:
    """Compare steps of the uncached engine with the reference design's at the papers' size, each at its best."""

    def value(results: Results) -> Value | None:
        if results.load("peers").get("paper_size") and (rows := results.peer(batch, "uncached")):
            return Value(rows[0]["over_reference"]["ratio"])
        rows = [row for row in results.load("engine").get("rows", []) if row["batch"] == batch]
        return Value(rows[0]["best_ratio"], "float32, compiled where that is faster") if rows else None

    return value


def largest(results: Results) -> int:
    """Return the largest batch of the comparison, where damage is measured as well."""
    return max((int(b) for b in results.load("peers").get("batches", {})), default=0)


def cache(kinds: tuple[str, ...], sw: float, distance: float, base: str) -> Callable[[Results], Value | None]:
    """Return the speedup of the fastest cache of some kinds whose damage is within bounds, or say that none is."""

    def value(results: Results) -> Value | None:
        rows = [row for row in results.peer(largest(results), *kinds) if row[base]]
        if not rows:
            return None
        kept = [row for row in rows if within(row, sw, distance)]
        best = max(kept or rows, key=lambda row: row[base]["ratio"])
        content, known = results.load("peers"), "sw_time_change" in best
        notes = [best["name"], f"batch {largest(results)}"] + ([] if content["paper_size"] else ["small network"])
        steps = content["settings"]["steps"]
        notes += [f"only {steps} steps"] * (steps < 1000) + ["SW not measured"] * (not known)
        notes += ["damage out of bounds"] * (not kept) + ["briefly trained"] * bool(content["trained_here"])
        fair = bool(kept) and known and steps >= 1000 and not content["trained_here"]
        return Value(best[base]["ratio"], ", ".join(notes), fair)

    return value


def within(row: dict[str, Any], sw: float, distance: float) -> bool:
    """Tell whether a row's damage is within bounds, as far as it was measured."""
    changes = [row[key] for d in ("time", "freq") if (key := f"sw_{d}_change") in row]
    return row.get("distance", float("inf")) < distance and all(abs(change) <= sw for change in changes)


def training(results: Results) -> Value | None:
    """Return the training throughput over the reference design's at the same precision: the best way measured."""
    content = results.load("training")
    rows = [row for row in content.get("rows", []) if "over_reference" in row]
    best = max(rows, key=lambda row: row["over_reference"]["ratio"], default=None)
    paper = bool(rows) and content["settings"]["preset"] == "paper"
    return Value(best["over_reference"]["ratio"], best["name"], paper) if best else None


def peak(results: Results) -> Value | None:
    """Return the share of the peak that was reached at batch 1,024 in float32."""
    content = results.load("limits")
    rows = [row for row in content.get("calls", []) if row["batch"] == 1024]
    paper = bool(rows) and content["settings"]["preset"] == "paper"
    return Value(rows[0]["share_of_peak"]["float32"], counts=paper) if rows else None


def against_pot(results: Results) -> Value | None:
    """Return the speedup over the faster of POT's two forms."""
    content = results.load("metrics")
    if "cases" in content:
        case = content["cases"][0]
        return Value(min(case["speedup_over_pot_numpy"], case["speedup_over_pot_torch"]))
    if "over_NumPy" in content:
        return Value(min(content[f"over_{name}"]["ratio"] for name in ("NumPy", "PyTorch")))
    return None


BARS = [
    Bar("uncached, paper size, batch 64, over the reference design", (4, 5), uncached(64)),
    Bar("uncached, paper size, batch 1, over the reference design", (2.5, 8), uncached(1)),
    Bar(
        "E²-CRF, SW within 2 %, over ours uncached",
        (2.2, 2.2),
        cache(("E2-CRF balanced",), 0.02, float("inf"), "over_uncached"),
    ),
    Bar(
        "best cache, SW within 1 %, distance below 0.03, over ours uncached",
        (20, 20),
        cache(("cache", "best"), 0.01, 0.03, "over_uncached"),
    ),
    Bar(
        "everything together, over the reference design",
        (80, 100),
        cache(("cache", "best"), 0.01, 0.03, "over_reference"),
    ),
    Bar("training, series per second, over the reference design", (2, 3), training),
    Bar("share of the matrix-product peak, uncached, batch 1,024", (0.6, 0.35), peak, percent=True),
    Bar("sliced Wasserstein, 10,000 samples, 1,000 directions, over POT", (5, 50), against_pot),
]


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Lay out a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return ["", *("| " + " | ".join(line) + " |" for line in lines), ""]


def number(value: Any, form: str = ".3g") -> str:
    """Format a value that may be missing."""
    return "" if value is None else format(value, form)


def bars(cpu: Results, gpu: Results) -> list[str]:
    """Show what was to be reached, and what was."""
    rows = []
    for bar in BARS:
        cells = [
            cell
            for r, least in zip((cpu, gpu), bar.least, strict=True)
            for cell in (f"≥ {bar.show(least)}", bar.cell(r, least))
        ]
        rows.append([bar.what, *cells])
    return ["## Goals", *table(["", "two cores", "measured", "one H100", "measured"], rows)]


def origin(content: dict[str, Any]) -> str:
    """Say what was measured on, and whether to the end."""
    m = content["machine"]
    place = m["processor"] if m["device"] == "cpu" else m["device"]
    note = "" if content.get("complete", True) else " **Unfinished.**"
    return f"{place}, {m['threads']} thread(s), PyTorch {m['torch']}.{note}"


def engine_section(results: Results) -> list[str]:
    content = results.load("engine")
    if not content:
        return []
    lines = [
        "## A step at the papers' size",
        "",
        origin(content),
        "Uncached, 187 × 1, the same work in several ways. Error: of the network's raw output, relative. On a CPU "
        "only calls for one or two samples are compiled.",
    ]
    head = ["", "ms a sample", "over the reference done alike", "over the fastest float32 reference", "error"]
    for part in content["rows"]:
        rows = [
            [
                f"{'reference design' if r['side'] == 'reference' else 'ours'}, "
                f"{'compiled, bfloat16' if r['way'] == 'both' else r['way']}",
                f"{r['ms_per_sample']:.2f}",
                f"{r['over_same_way']:.2f}×",
                f"{r['over_best_float32']:.2f}×",
                number(r.get("relative_error"), ".1e"),
            ]
            for r in part["ways"]
        ]
        peak, note = part["peak_mib"], ""
        if peak and peak["reference"] > 1:  # at batch 1 a call needs nothing that the process has not had before
            note = f"; a call's peak memory {peak['ours']:.0f} MiB, reference {peak['reference']:.0f} MiB"
        lines += ["", f"Batch {part['batch']}{note}:"]
        lines += table(head, rows)
    return lines


def peers_section(results: Results) -> list[str]:
    content = results.load("peers")
    if not content:
        return []
    s, sizes = content["settings"], content["network"]
    lines = ["## Side by side", "", origin(content)]
    lines += [
        f"Transformers of {sizes['layers']} layers, {sizes['heads']} heads, {sizes['width']} wide, feed-forward "
        f"{sizes['feedforward']}; series of {content['shape'][0]} × {content['shape'][1]}; T = {s['steps']}; "
        f"{s['rounds']} round(s) in turn; {'mixed precision' if s['bf16'] else 'float32'}. SW: change of the sliced "
        f"Wasserstein distance to the training set ({s['data']}). ¹ scaled from fewer steps.",
    ]
    head = [
        "",
        "ms a sample",
        "samples/s",
        "over reference",
        "over uncached",
        "calls",
        "distance",
        "SW time",
        "SW freq",
    ]
    for batch, part in content["batches"].items():
        rows = []
        for row in part["rows"]:
            over, plain = row["over_reference"], row["over_uncached"]
            cells = [
                row["name"] + (" ¹" if row["extrapolated_from_steps"] else ""),
                f"{row['ms_per_sample']:.1f}",
                number(row["samples_per_second"]),
                f"{over['ratio']:.2f}× ({over['low']:.2f} to {over['high']:.2f})",
                f"{plain['ratio']:.2f}×" if plain else "",
                number(row["network_calls"], ".0f"),
                number(row.get("distance"), ".4f"),
            ]
            rows.append([*cells, *(number(row.get(f"sw_{d}_change"), "+.1%") for d in ("time", "freq"))])
        lines += ["", f"Batch {batch}, {part['samples']} sample(s):", *table(head, rows)]
        if best := part.get("everything_together"):
            lines.append(
                f"Everything together: {best['cache']}, {best['over_reference']['ratio']:.1f}× the reference design"
                + ("." if best["within_bounds"] else ", outside the bounds on damage.")
            )
    return [*lines, ""]


def limits_section(results: Results) -> list[str]:
    content = results.load("limits")
    if not content:
        return []
    peaks = ", ".join(f"{name} {value / 1e12:.3g} TFLOP/s" for name, value in content["peak_flops"].items())
    lines = ["## Limits", "", origin(content), f"Peak of a large matrix product: {peaks}."]
    rows = [
        [
            str(r["batch"]),
            f"{r['flops'] / 1e9:.3g}",
            f"{r['bytes_operator_by_operator'] / 1e6:.3g}",
            number(r["flops_per_byte_operator_by_operator"]),
            f"{1e3 * r['seconds']['float32']:.3g}",
            f"{r['share_of_peak']['float32']:.0%}",
            f"{r['share_of_peak']['bfloat16']:.0%}",
            f"{r['bf16_time_ratio']:.2f}×",
            f"{r['bf16_relative_error']:.1e}",
        ]
        for r in content["calls"]
    ]
    head = [
        "batch",
        "GFLOP",
        "MB moved",
        "FLOP/byte",
        "ms",
        "of peak",
        "bf16, of its peak",
        "bf16 faster",
        "bf16 error",
    ]
    lines += table(head, rows)
    if content.get("profile"):
        groups = sorted(
            {
                r["group"]
                for part in content["profile"].values()
                for r in part
                if " " not in r["group"] or "operator " not in r["group"]
            }
        )
        rows = []
        for name, part in content["profile"].items():
            found = {r["group"]: r["share"] for r in part}
            rows.append([name, *(number(found.get(group, 0.0), ".0%") for group in groups)])
        lines += ["Where the time goes (under the profiler, which slows what is short):", *table(["", *groups], rows)]
    if content.get("growth"):
        what = list(dict.fromkeys(r["what"] for r in content["growth"]))
        rows = [
            [w, ", ".join(f"{r['value']}: {r['ms']:.3g} ms" for r in content["growth"] if r["what"] == w)]
            for w in what
        ]
        lines += ["How a call grows with each size, and a run with its steps:", *table(["", ""], rows)]
    if content.get("million_samples"):
        rows = [
            [r["how"], str(r["devices"]), f"{r['wall_hours']:.3g}", f"{r['cost']:.3g} {r['unit']}"]
            for r in content["million_samples"]
        ]
        given = f"speedup {content['settings']['speedup']:g}×, linear in devices"
        lines += [f"A million samples at T = 1,000, worked out from the throughput ({given}):"]
        lines += table(["", "devices", "hours", "cost"], rows)
    return lines


def training_section(results: Results) -> list[str]:
    content = results.load("training")
    if not content:
        return []
    lines = ["## Training", "", origin(content)]
    rows = [
        [
            r["name"],
            number(r["samples_per_second"]),
            f"{r['over_reference']['ratio']:.2f}×" if "over_reference" in r else "",
        ]
        for r in content["rows"]
    ]
    lines += table(["", "series per second", "over the reference at its precision"], rows)
    if goal := content.get("to_loss", {}).get("goal"):
        rows = []
        for r in content["to_loss"]["rows"]:
            at = r["reached_at"]
            rows.append(
                [
                    r["name"],
                    f"{r['last_loss']:.4f}",
                    f"{at['step']}" if at else "never",
                    f"{at['seconds']:.1f}" if at else "",
                ]
            )
        lines += [f"Steps to a loss of {goal:.4f} (noise prediction, uniform times):"]
        lines += table(["", "last loss", "steps", "seconds"], rows)
    return lines


def samples_section(results: Results) -> list[str]:
    lines = []
    for path in sorted(results.folder.glob("gpu-samples-*.json")):
        content = json.loads(path.read_text())
        rows = [
            [
                name,
                f"{r['samples']:,}",
                number(r["samples_per_second"]),
                f"{r['speedup']:.2f}×" if "speedup" in r else "",
                number(r.get("distance"), ".4f"),
                number(r["time"], ".4g"),
                number(r["freq"], ".4g"),
            ]
            for name, r in content["rows"].items()
        ]
        floor = content["baselines"]["floor"]
        rows.append(
            [
                f"floor ({floor['rows']} real series)",
                "",
                "",
                "",
                "",
                number(floor["time"], ".4g"),
                number(floor["freq"], ".4g"),
            ]
        )
        lines += ["", f"{content['data']}: {origin(content)}"]
        lines += table(["", "samples", "samples/s", "speedup", "distance", "SW time", "SW freq"], rows)
    return ["## Ten thousand samples at paper size", *lines] if lines else []


def figures(results: Results, folder: Path) -> list[str]:
    """Draw speedups and shares of time, and return the lines that show them."""
    lines, peers, limits = [], results.load("peers"), results.load("limits")
    if peers.get("batches"):
        figure = Figure(figsize=(8, 3.6), layout="constrained")
        axis, count = figure.subplots(), len(peers["batches"])
        for i, (batch, part) in enumerate(peers["batches"].items()):
            rows = part["rows"][::-1]
            places = [y + 0.8 * (count - 1 - i) / count for y in range(len(rows))]
            axis.barh(places, [r["over_reference"]["ratio"] for r in rows], 0.8 / count, label=f"batch {batch}")
            axis.set_yticks(range(len(rows)), [r["name"] for r in rows])
        axis.set(xscale="log", xlabel="times faster than the reference design")
        axis.axvline(1, color="grey", lw=0.8)
        axis.legend(fontsize=8)
        lines += draw(figure, folder / f"{results.prefix}page-peers.png", "Times faster than the reference design")
    if limits.get("profile"):
        figure = Figure(figsize=(8, 2.6), layout="constrained")
        axis, names = figure.subplots(), list(limits["profile"])
        groups = [r["group"] for r in limits["profile"][names[0]] if not r["group"].startswith("operator ")]
        left = [0.0] * len(names)
        for group in groups:
            parts = [sum(r["share"] for r in limits["profile"][n] if r["group"] == group) for n in names]
            axis.barh(names, parts, left=left, label=group)
            left = [a + b for a, b in zip(left, parts, strict=True)]
        axis.set(xlim=(0, 1), xlabel="share of the time")
        axis.invert_yaxis()
        figure.legend(fontsize=7, ncols=4, loc="outside upper center")
        lines += draw(figure, folder / f"{results.prefix}page-profile.png", "Where the time goes")
    return lines


def draw(figure: Figure, path: Path, title: str) -> list[str]:
    figure.savefig(path, dpi=100)
    return ["", f"![{title}](results/{path.name})"]


def commands(folder: Path) -> list[str]:
    rows = []
    for what, command, files in COMMANDS:
        links = ", ".join(f"[{name}](results/{name})" for name in files if (folder / name).is_file())
        rows.append([what, command, links or MISSING])
    return ["## Commands", *table(["what", "command", "result"], rows), ENDING]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])  # type: ignore[union-attr]
    options.add_argument("--results", type=Path, default=HERE / "results")
    options.add_argument("--output", type=Path, default=HERE / "README.md")
    args = options.parse_args()
    cpu, gpu = Results(args.results, ""), Results(args.results, "gpu-")
    lines = [PREFACE, *bars(cpu, gpu)]
    for results in (cpu, gpu):
        body = [
            *engine_section(results),
            *peers_section(results),
            *limits_section(results),
            *training_section(results),
        ]
        if results is gpu:
            body += samples_section(gpu)
        if body and results is gpu:
            lines += ["# On a GPU", ""]
        lines += [*figures(results, args.results), "", *body]
        if results is cpu:
            lines += [*comparisons_section(args.results), *fewer_steps_section(args.results)]
    text = "\n".join([*lines, *commands(args.results)])
    while "\n\n\n" in text:
        text = text.replace("\n\n\n", "\n\n")
    args.output.write_text(text + "\n")
    print(f"wrote {args.output.name}")


if __name__ == "__main__":
    main()
