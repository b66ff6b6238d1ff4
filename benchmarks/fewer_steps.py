"""The Wiener cache against what a user would otherwise do: fewer steps, with each solver, at as many network calls.

    python benchmarks/fewer_steps.py --ckpt_path C --data ecg_mitbih --output benchmarks/results/fewer-steps-ecg

Solvers with fewer steps follow paths of their own, so what can be compared is the sliced Wasserstein distance to the
training set, over many samples; the spread between sets of samples (`two_se_samples`, from halves) is the larger
error.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from common import flat, open_data
from matplotlib.figure import Figure

from lightning_freqdiff.caching import Wiener
from lightning_freqdiff.evaluation.bench import Bench, Run
from lightning_freqdiff.evaluation.contenders import Contender, fewer_steps
from lightning_freqdiff.evaluation.evaluator import Evaluator
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.reporting.hardware import describe_hardware
from lightning_freqdiff.sampling.loop import Sampling


def measure(bench: Bench, evaluator: Evaluator, contender: Contender) -> dict[str, Any]:
    run = Run(contender)
    bench.draw(run)
    assert run.series is not None
    halves = [evaluator.distances(half)["time"].mean() for half in run.series.chunk(2)]
    distances = evaluator.distances(run.series)
    first = evaluator.distances(run.series[: evaluator.held_out])["time"]  # as many as the floor is taken at
    return {
        "name": contender.name.rsplit("-", 1)[0] if contender.kind == "solver" else contender.name,
        "calls": run.totals["network_calls"],
        "seconds": run.seconds[0],
        "sw_time": float(distances["time"].mean()),
        "sw_time_at_floor_count": float(first.mean()),
        "sw_frequency": float(distances["frequency"].mean()),
        "two_se_samples": float(abs(halves[0] - halves[1]) / 2**0.5),
    }


def draw(rows: list[dict[str, Any]], floor: float, path: Path) -> None:
    figure = Figure(figsize=(6.5, 4), layout="constrained")
    axis = figure.subplots()
    for name in dict.fromkeys(row["name"] for row in rows):
        chosen = sorted((row for row in rows if row["name"] == name), key=lambda row: row["calls"])
        ours = name.startswith("wiener")
        style = {"lw": 2.2, "marker": "o"} if ours else {"lw": 1, "marker": "x"}
        axis.errorbar(
            [row["calls"] for row in chosen],
            [row["sw_time"] for row in chosen],
            [row["two_se_samples"] for row in chosen],
            label=name,
            **style,
        )
    axis.axhline(floor, color="grey", ls=":", lw=0.8)
    axis.set(xscale="log", yscale="log", xlabel="network calls", ylabel="SW to the training set (time)")
    axis.legend(fontsize=7)
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--ckpt_path", type=Path, required=True)
    parser.add_argument("--data", default="synthetic")
    parser.add_argument("--samples", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--tolerances", type=float, nargs="+", default=[0.02, 0.05, 0.15, 0.5])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, required=True, help="path without suffix: .json and .png are made")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    evaluator = Evaluator(open_data(args.data))
    floor = flat(evaluator.baselines(args.samples)["floor"])
    module = ScoreModule.load_from_checkpoint(args.ckpt_path)
    sampling = Sampling(num_samples=args.samples, num_steps=args.steps, batch_size=64, seed=3)
    bench, rows = Bench(module, sampling), []
    args.output.parent.mkdir(parents=True, exist_ok=True)
    for tolerance in args.tolerances:
        ours = Contender("wiener", "cache", sampling, Wiener(tolerance=tolerance, memory=1.0, longest=0.4))
        rows.append(measure(bench, evaluator, ours))
        rows += [measure(bench, evaluator, c) for c in fewer_steps(sampling, round(rows[-1]["calls"]))]
        for row in rows[-8:]:
            print(f"{row['name']:<18} {row['calls']:6.1f} calls  SW {row['sw_time']:.4f}", flush=True)
        facts = {"machine": describe_hardware(module.device), "data": args.data, "samples": args.samples}
        facts |= {"steps": args.steps, "floor": floor, "rows": rows}
        args.output.with_suffix(".json").write_text(json.dumps(facts, indent=1) + "\n")
        draw(rows, floor["sw_time"], args.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
