"""The sections of the page on what one device measured, one for each script."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


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


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Lay out a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return ["", *("| " + " | ".join(line) + " |" for line in lines), ""]


def number(value: Any, form: str = ".3g") -> str:
    """Format a value that may be missing."""
    return "" if value is None else format(value, form)


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
        "relative L2",
        "SW time",
        "SW frequency",
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
                number(row.get("relative_l2"), ".4f"),
            ]
            rows.append([*cells, *(number(row.get(f"sw_{d}_change"), "+.1%") for d in ("time", "frequency"))])
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
        floor, rows = content["baselines"]["floor"], []
        for name, r in content["rows"].items():
            cells = [number(r["samples_per_second"]), f"{r['speedup']:.2f}×" if "speedup" in r else ""]
            rows.append([name, f"{r['count']:,}", *cells, number(r.get("relative_l2"), ".4f"), *sw(r)])
            if floor["count"] < r["count"]:
                rows.append(
                    [f"{name}, the first", f"{r['at_floor_count']['count']:,}", "", "", "", *sw(r["at_floor_count"])]
                )
        rows.append(["floor, real series", f"{floor['count']:,}", "", "", "", *sw(floor)])
        lines += ["", f"{content['data']}: {origin(content)}", "Distances compare at equal counts of series only."]
        lines += table(["", "series", "series/s", "speedup", "relative L2", "SW time", "SW frequency"], rows)
    return ["## Ten thousand samples at paper size", *lines] if lines else []


def sw(measured: dict[str, Any]) -> list[str]:
    """Format sliced Wasserstein distances."""
    return [number(measured[f"sw_{domain}"], ".4g") for domain in ("time", "frequency")]


def workers_section(results: Results) -> list[str]:
    content = results.load("workers")
    if not content:
        return []
    rows = []
    if "workers" in content:
        found = content["workers"]
        what = f"two workers of one thread over one, {found['series']:,} series, start-up included"
        rows.append([what, f"{found['speedup']['ratio']:.2f}×", "at least 1.8×"])
    if "output" in content:
        shown = ", ".join(f"{name} {share:+.1%}" for name, share in content["output"]["overhead"].items())
        rows.append(["output in a file for each unit, over one `.npy`: more time", shown, "below 3%"])
    if "memory" in content:
        shown = ", ".join(f"{int(n):,} series: {peak:.0f} MiB" for n, peak in content["memory"]["peak_mib"].items())
        rows.append(["peak memory of a worker", shown, "flat"])
    if "streaming" in content:
        shown = f"{content['streaming']['rate']['ratio']:.2f}×"
        rows.append(["training from Parquet over training from memory, steps a second", shown, "at least 0.9×"])
    return ["## Both ends of a large run", "", origin(content), *table(["what", "measured", "wanted"], rows)]
