"""Caches against the uncached sampler on one checkpoint: time, relative L2, sliced Wasserstein, curves.

    python benchmarks/caches.py --ckpt_path C --data ecg_mitbih --output benchmarks/results/e2crf

Cached and uncached runs start from the same noise and use the same increments. Each cache is
timed once; the uncached run is timed again before every few of them, and the speedup is against its median.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from common import open_data
from matplotlib.figure import Figure

from lightning_freqdiff.caching import E2CRF, CachedScore, CachePolicy
from lightning_freqdiff.evaluation.evaluator import Evaluator
from lightning_freqdiff.metrics import relative_l2
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.reporting.hardware import describe_hardware
from lightning_freqdiff.sampling.loop import Sampling, sample
from lightning_freqdiff.sampling.solvers import EulerMaruyama

BUDGET = {"preset": "paper", "trigger": "budget", "since": "last_refresh", "feedback": "full", "tau_warn": 1e9}


def grid(name: str) -> dict[str, E2CRF]:
    """Return the settings of one table."""
    if name == "ablation":
        presets = ("paper", "naive", "fixed_schedule", "no_feedback", "uniform_threshold", "balanced")
        return {preset: E2CRF(preset=preset) for preset in presets} | {"kv": E2CRF(preset="paper", reuse="kv")}  # type: ignore
    if name == "paper_grid":
        pairs = [(1, 100), (1, 150), (1, 200), (1, 500), (1, 1000), (3, 100), (3, 150), (5, 100), (5, 150)]
        return {f"K={k} R={r}": E2CRF(preset="paper", K_low=k, R=r) for k, r in pairs}
    if name == "choices":
        variants = {
            "stale output": {"stale": "output"},
            "stale residual": {"stale": "residual"},
            "stale wiener": {"stale": "wiener"},
            "since previous": {"since": "previous"},
            "signal error": {"signal": "error"},
        }
        return {f"budget 0.35, {k}": E2CRF(**{**BUDGET, **v}) for k, v in variants.items()}  # type: ignore
    if name == "trade_off":
        table = {f"tau_safe={x}": E2CRF(tau_safe=x) for x in (0.001, 0.003, 0.01, 0.03, 0.1)}
        table |= {f"fixed R={r}": E2CRF(preset="fixed_schedule", R=r) for r in (3, 5, 10, 20, 50)}
        return table
    raise SystemExit(f"unknown table {name!r}")


class Bench:
    """One model, one noise, one reference run."""

    def __init__(self, module: ScoreModule, evaluator: Evaluator, samples: int, batch: int, steps: int) -> None:
        self.module, self.evaluator = module, evaluator
        self.sampling = Sampling(num_samples=samples, num_steps=steps, batch_size=batch, solver=EulerMaruyama())
        self.uncached: list[float] = []
        self.reference = self.draw(None)[0]
        self.directions = self.evaluator.distances(self.reference)
        changes = self.evaluator.changes(self.directions, self.directions)
        self.sw = {k: v for k, v in changes.items() if "change" not in k}

    def draw(self, policy: CachePolicy | None) -> tuple[torch.Tensor, float, Any]:
        """Draw all samples; return them, the seconds it took, and the score function used."""
        m = self.module
        score = m.score if policy is None else CachedScore(m.score, policy, self.sampling.num_calls)
        since, parts = time.perf_counter(), []
        for unit in self.sampling.units():
            parts.append(m.score.codec.decode(sample(score, m.sde, m.score.codec, unit, self.sampling)))
        seconds = time.perf_counter() - since
        if policy is None:
            self.uncached.append(seconds)
        return torch.cat(parts), seconds, score

    def row(self, name: str, policy: CachePolicy) -> dict[str, Any]:
        """Measure one setting."""
        series, seconds, cached = self.draw(policy)
        return {
            "name": name,
            "seconds": seconds,
            **relative_l2(series, self.reference),
            **self.evaluator.changes(self.evaluator.distances(series), self.directions),
            **cached.ledger.totals(),
            "memory_mib": cached.memory() / 2**20,
            "curves": cached.ledger.curves(),
        }

    def tables(self, names: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
        """Measure every setting of some tables, and the uncached run again before every few of them."""
        results = {}
        for name in names:
            rows = []
            for i, (label, policy) in enumerate(grid(name).items()):
                if i % 6 == 5:
                    self.draw(None)
                rows.append(self.row(label, policy))
                print(f"{label}: {rows[-1]['seconds']:.1f} s, relative L2 {rows[-1]['relative_l2']:.4f}", flush=True)
            results[name] = rows
        base = median(self.uncached)
        return {name: [{**row, "speedup": base / row["seconds"]} for row in rows] for name, rows in results.items()}


def draw_curves(rows: list[dict[str, Any]], path: Path) -> None:
    figure = Figure(figsize=(10, 3), layout="constrained")
    axes = figure.subplots(1, 3)
    for row in rows:
        for axis, key in zip(axes, ("hit_rate", "intensity", "probe_error"), strict=True):
            values = torch.tensor(row["curves"][key])
            smooth = torch.nn.functional.avg_pool1d(values.nan_to_num().view(1, 1, -1), 25, 25).flatten()
            weight = torch.nn.functional.avg_pool1d((~values.isnan()).double().view(1, 1, -1), 25, 25).flatten()
            steps = 25 * torch.arange(len(smooth))
            axis.plot(steps[weight > 0], (smooth / weight)[weight > 0], label=row["name"], lw=1)
    for axis, title in zip(axes, ("hit rate", "event intensity", "probe error (rms of ξ̂)"), strict=True):
        axis.set(title=title, xlabel="step")
    axes[1].set_yscale("log")
    axes[2].set_yscale("log")
    axes[0].axhline(0.65, color="grey", ls=":", lw=0.8)
    axes[2].legend(fontsize=6)
    figure.savefig(path, dpi=130)


def draw_trade_off(rows: list[dict[str, Any]], path: Path) -> None:
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for kind in ("tau_safe", "fixed"):
        chosen = sorted((r for r in rows if r["name"].startswith(kind)), key=lambda r: r["speedup"])
        label = {
            "tau_safe": "balanced, over τ_safe",
            "fixed": "fixed schedule, over R",
        }[kind]
        left.plot([r["speedup"] for r in chosen], [r["relative_l2"] for r in chosen], "o-", label=label)
        right.plot([r["speedup"] for r in chosen], [100 * r["sw_time_change"] for r in chosen], "o-", label=label)
    left.set(xscale="log", yscale="log", xlabel="speedup over uncached", ylabel="relative L2 to the uncached samples")
    right.set(xscale="log", xlabel="speedup over uncached", ylabel="change of SW (time), %")
    left.axhline(0.03, color="grey", ls=":", lw=0.8)
    left.legend(fontsize=8)
    figure.savefig(path, dpi=130)


def table(rows: list[dict[str, Any]]) -> str:
    titles = ("setting", "speedup", "relative L2", "median", "99 %", "SW time", "SW frequency", "hit rate", "FLOPs")
    head = f"| {' | '.join([*titles, 'calls', 'cache MiB'])} |"
    lines = [head, "|---" * 11 + "|"]
    for r in rows:
        lines.append(
            f"| {r['name']} | {r['speedup']:.2f}× | {r['relative_l2']:.4f} | {r['relative_l2_median']:.4f} | "
            f"{r['relative_l2_p99']:.4f} | {r['sw_time_change']:+.1%} | {r['sw_frequency_change']:+.1%} | "
            f"{r['hit_rate']:.1%} | {r['flops_fraction']:.1%} | {r['network_calls']:.0f} | {r['memory_mib']:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--ckpt_path", type=Path, required=True)
    parser.add_argument("--data", default="synthetic")
    parser.add_argument("--tables", nargs="+", default=["ablation", "paper_grid", "choices", "trade_off"])
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--output", type=Path, required=True, help="path without suffix: .json, .md and .png are made"
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    module, evaluator = ScoreModule.load_from_checkpoint(args.ckpt_path), Evaluator(open_data(args.data))
    bench = Bench(module, evaluator, args.samples, args.batch, args.steps)
    print(f"uncached: {bench.uncached[0]:.1f} s, SW {bench.sw}", flush=True)
    results, base = bench.tables(args.tables), median(bench.uncached)
    machine = {
        **describe_hardware(),
        "samples": args.samples,
        "batch": args.batch,
        "steps": args.steps,
        "data": args.data,
    }
    facts = {"machine": machine, "uncached_seconds": bench.uncached, "uncached_sw": bench.sw, "tables": results}
    args.output.parent.mkdir(parents=True, exist_ok=True)
    name = args.output.name
    for rows in results.values():
        if any(r["name"].startswith("tau_safe") for r in rows):
            draw_trade_off(rows, args.output.with_name(f"{name}-trade-off.png"))
        elif any(r["name"] == "balanced" for r in rows):
            draw_curves(
                [r for r in rows if r["name"] in ("paper", "uniform_threshold", "balanced")],
                args.output.with_name(f"{name}-curves.png"),
            )
    text = [f"# Caches on {args.data}", "", f"`{json.dumps(machine)}`", ""]
    text += [
        f"Uncached: {base:.1f} s (median of {len(bench.uncached)}), SW {bench.sw['sw_time']:.4f} in time and "
        f"{bench.sw['sw_frequency']:.4f} in frequency.",
        "",
    ]
    for label, rows in results.items():
        text += [f"## {label}", "", table(rows), ""]
    args.output.with_name(f"{name}.md").write_text("\n".join(text))
    for rows in results.values():
        for row in rows:
            row["curves"] = {
                k: [None if v != v else round(v, 6) for v in c[:: max(1, args.steps // 50)]]
                for k, c in row["curves"].items()
            }
    args.output.with_name(f"{name}.json").write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
