"""Every solver on every grid with few network calls, against the ODE solved to the end, and a thousand steps.

    python benchmarks/fewer_steps.py --ckpt_path C --set ecg --samples 1000 --seeds 2 3 4 --output .../fewer-steps-ecg
    python benchmarks/fewer_steps.py --ckpt_path C --solvers Fitted --seeds 2 --scores discriminative --output ...

Deterministic solvers go from the same noise to nearly the same series, so that luck of the noise, which moves the
distance of a set of samples by a quarter, leaves their ratio. Beside it stands what a distance hardly sees: how far a
series is from that of the solved ODE, its variance, and for heartbeats how many end in a flat tail; and, with
``--scores``, how well a network tells the samples of the first seed from training series, a minute or more each.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from common import autocast
from judged import flat_tails
from matplotlib.figure import Figure
from quality import SETS, open_set
from torch import Tensor

from lightning_freqdiff.checkpoint import DISTILLED
from lightning_freqdiff.evaluation.evaluator import Evaluator
from lightning_freqdiff.evaluation.fitting import fit_steps
from lightning_freqdiff.evaluation.judges import Judges
from lightning_freqdiff.evaluation.jumps import jump_costs
from lightning_freqdiff.evaluation.teacher import teach
from lightning_freqdiff.files import replace_json, replacing
from lightning_freqdiff.metrics import relative_l2
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.reporting.hardware import describe_hardware
from lightning_freqdiff.sampling import Grid, Sampling, Solver
from lightning_freqdiff.sampling.grids import COSTS, TIMES
from lightning_freqdiff.sampling.solvers import (
    DEIS,
    IPNDM,
    DPMSolverPP,
    EulerMaruyama,
    ExponentialWiener,
    Fitted,
    Heun,
    UniPC,
)

SOLVERS: dict[str, Solver] = {
    "Fitted": Fitted(),
    "DPMSolverPP": DPMSolverPP("ode"),
    "UniPC": UniPC(2),
    "DEIS": DEIS(3),
    "IPNDM": IPNDM(3),
    "ExponentialWiener": ExponentialWiener("ode"),
    "Heun": Heun(),
}
GRIDS: tuple[Grid, ...] = ("uniform", "edm", "logsnr", "tuned")
SOLVED = Sampling(num_steps=60, solver=Heun(), grid="edm")
TAUGHT = 1000
"""Seed of the teacher's noise, which is no seed of samples."""


def draw(module: ScoreModule, sampling: Sampling, seed: int) -> tuple[Tensor, float]:
    since = time.perf_counter()
    with autocast(module.device.type, True), torch.no_grad():
        units = replace(sampling, seed=seed).units()
        drawn = torch.cat([module.draw(unit, sampling).float().cpu() for unit in units])
    return drawn, time.perf_counter() - since


class Contest:
    """Draws the samples of every contender from the noise of every seed, and measures them.

    Args:
        module: The model, with its grids and steps learnt.
        evaluator: Measures against the training set.
        samples: Samples of a set.
        seeds: One set each.
        judged: Scores that train a network, of the first set, and how often each is taken.
    """

    def __init__(
        self, module: ScoreModule, evaluator: Evaluator, samples: int, seeds: list[int], judged: Mapping[str, int]
    ) -> None:
        self.module, self.evaluator, self.samples, self.seeds = module, evaluator, samples, seeds
        self.judged = judged
        self.solved: dict[int, tuple[Tensor, float]] = {}

    def distance(self, series: Tensor) -> float:
        """Return the sliced Wasserstein distance to the training set."""
        return float(self.evaluator.distances(series)["time"].mean())

    def judge(self, series: Tensor) -> dict[str, float]:
        """Return the scores of samples against the training set."""
        found = {}
        for name, repetitions in self.judged.items():
            judges = Judges(self.evaluator.reference, "project", repetitions, directions=1, seed=0)
            taken = judges.take(name, series)[name]
            found |= {name: taken["mean"], f"{name}_two_se": taken["two_se"]}
        return found

    def measure(self, name: str, sampling: Sampling, student: ScoreModule | None = None) -> dict[str, Any]:
        """Draw a contender's samples of every seed, of the model or a student of it, and return its row."""
        sampling = replace(sampling, num_samples=self.samples, batch_size=64)
        found: list[dict[str, float]] = []
        scores: dict[str, float] = {}
        for seed in self.seeds:
            series, seconds = draw(student or self.module, sampling, seed)
            if seed not in self.solved:  # the first to be measured
                self.solved[seed] = series, self.distance(series)
            exact, known = self.solved[seed]
            distance = self.distance(series)
            found.append(
                {
                    "sw_time": distance,
                    "over_solved": distance / known,
                    "relative_l2": relative_l2(series, exact)["relative_l2"],
                    "variance": float(series.var(0).mean() / exact.var(0).mean()),
                    "flat_tails": flat_tails(series),
                    "seconds": seconds,
                }
            )
            if seed == self.seeds[0]:
                scores = self.judge(series)
        row: dict[str, Any] = {"name": name, "grid": sampling.grid, "calls": sampling.num_calls, **scores}
        row |= {key: statistics.fmean(one[key] for one in found) for key in found[0]}
        if len(found) > 1:
            spread = statistics.stdev(one["over_solved"] for one in found)
            row["over_solved_two_se"] = 2 * spread / len(found) ** 0.5
        print({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}, flush=True)
        return row


def learn(module: ScoreModule) -> float:
    """Learn grids and steps, as ``calibrate`` does, and return the seconds that it took."""
    since, score = time.perf_counter(), module.score
    with autocast(module.device.type, True):
        paths = teach(score, Sampling(seed=TAUGHT))
        score.calibration = {TIMES: paths.times, COSTS: jump_costs(score, paths), **fit_steps(score, paths)[0]}
    return time.perf_counter() - since


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    figure = Figure(figsize=(6.5, 4), layout="constrained")
    axis = figure.subplots()
    for name in SOLVERS:
        best = {row["calls"]: row for row in reversed(sorted_by_quality(rows)) if row["name"] == name}
        calls = sorted(best)
        if not calls:
            continue
        style = {"lw": 2.2, "marker": "o"} if name == "Fitted" else {"lw": 1, "marker": "x"}
        axis.plot(calls, [best[c]["over_solved"] for c in calls], label=name, **style)
    axis.axhline(1, color="grey", ls=":", lw=0.8)
    axis.set(xlabel="network calls", ylabel="SW to the training set over that of the solved ODE", ylim=(0.9, 2))
    axis.legend(fontsize=7)
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=130)


def sorted_by_quality(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows from the nearest to the training set to the farthest."""
    return sorted(rows, key=lambda row: row["over_solved"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--ckpt_path", type=Path, required=True)
    parser.add_argument("--set", choices=SETS, default="ecg")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[2, 3])
    parser.add_argument("--calls", type=int, nargs="+", default=[4, 5, 6, 8, 10, 12, 16])
    parser.add_argument("--solvers", choices=SOLVERS, nargs="+", default=list(SOLVERS))
    parser.add_argument("--grids", choices=GRIDS, nargs="+", default=list(GRIDS))
    parser.add_argument("--thousand", type=int, default=1000, help="steps of Euler-Maruyama; 0: none")
    parser.add_argument("--students", type=Path, nargs="+", default=[], help="checkpoints that distill made of it")
    parser.add_argument("--scores", choices=("discriminative", "context_fid"), nargs="+", default=[])
    parser.add_argument("--repetitions", type=int, default=5, help="of each of these scores")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, required=True, help="path without suffix: .json and .png are made")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    module = ScoreModule.load_from_checkpoint(args.ckpt_path).eval()
    evaluator = Evaluator(open_set(args.set))
    repetitions: int = args.repetitions
    contest = Contest(module, evaluator, args.samples, args.seeds, dict.fromkeys(args.scores, repetitions))
    facts: dict[str, Any] = {"machine": describe_hardware(module.device), "set": args.set, "samples": args.samples}
    facts |= {"seeds": args.seeds, "learnt_in_seconds": learn(module)}
    wanted = [("solved", SOLVED)]
    for calls in args.calls:
        for name in args.solvers:
            solver = SOLVERS[name]
            steps, odd = divmod(calls, solver.calls_per_step)
            if odd or (name == "Fitted" and calls not in range(2, 13)):
                continue
            grids = ("uniform",) if solver.calibrated else args.grids
            wanted += [(name, Sampling(num_steps=steps, solver=solver, grid=grid)) for grid in grids]
    if args.thousand:
        wanted.append(("thousand", Sampling(num_steps=args.thousand, solver=EulerMaruyama())))
    rows: list[dict[str, Any]] = []
    if args.scores and evaluator.real is not None:
        facts["real"] = contest.judge(evaluator.real[: args.samples])
    args.output.parent.mkdir(parents=True, exist_ok=True)
    for name, sampling in wanted:
        rows.append(contest.measure(name, sampling))
        replace_json(args.output.with_suffix(".json"), {**facts, "rows": rows})
    for path in args.students:
        student = ScoreModule.load_from_checkpoint(path).eval()
        steps = Sampling(num_steps=student.data_facts[DISTILLED], solver=Fitted())
        rows.append(contest.measure("distilled", steps, student))
        replace_json(args.output.with_suffix(".json"), {**facts, "rows": rows})
    plot(rows, args.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
