"""Sample with the reference design, with E²-CRF as published, and with ours, on the same work in one run.

    python benchmarks/peers.py --ckpt_path C --data ecg_mitbih --batches 1 64 --samples 64 --reference_steps 20

Every contender draws the same number of series with a network of the same size and T steps. They are timed in turn,
each after a warm-up; what counts is the ratio of medians. Ways that run the whole network at every step (the
reference design, E²-CRF as published, ours without a cache) may be timed over a few steps and scaled
(`extrapolated_from_steps`). The uncached samples that relative L2 and SW are held against are drawn in full, once.
Without a checkpoint a small model is trained first.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from common import PAPER, autocast, begin, open_data, parser, ratio, save, seconds, sizes_of, small_checkpoint
from reference import ReferenceNetwork, reference_steps, uniform_times
from torch import nn

from lightning_freqdiff.caching import E2CRF, Wiener
from lightning_freqdiff.evaluation.bench import Bench, Run
from lightning_freqdiff.evaluation.contenders import Contender
from lightning_freqdiff.evaluation.evaluator import Evaluator
from lightning_freqdiff.evaluation.scores import DOMAINS
from lightning_freqdiff.metrics import relative_l2
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.networks.kernels.compiled import FEW
from lightning_freqdiff.sampling.loop import Sampling
from lightning_freqdiff.sampling.solvers import DPMSolverPP, ExponentialWiener

REFERENCE, UNCACHED, PUBLISHED = "reference design", "ours, uncached", "E2-CRF as published"
FULL_COST = ("reference", "uncached", "published")
FEW_STEPS = 50


@dataclass
class Entry:
    """A contender at one batch size: how to run it, and what it took.

    Args:
        name: How it is called in tables.
        kind: ``reference``, ``published``, ``uncached``, ``cache``, ``best`` (a candidate for the best cache),
            ``solver``, or ``way`` (one of the others, compiled or in bfloat16: in no goal).
        job: Draws all samples.
        warm: Does a little of it.
        run: Samples and counts, where it is ours.
        steps: Steps that are timed: fewer than all for ways that cost the same at every step.
        low: Whether in bfloat16.
        seconds: Seconds of every round, scaled to all steps.
    """

    name: str
    kind: str
    job: Callable[[], Any]
    warm: Callable[[], Any]
    run: Run | None
    steps: int
    low: bool = False
    seconds: list[float] = field(default_factory=list)


def contenders(sampling: Sampling, tolerances: list[float], short: Sampling) -> list[Contender]:
    """Return all of ours; ``short`` has the few steps over which full-cost ways are timed."""
    caches = [Contender("E2-CRF balanced", "cache", sampling, E2CRF(preset="balanced"))]
    for tolerance in tolerances:
        caches.append(Contender(f"Wiener {tolerance:g}", "best", sampling, Wiener(tolerance=tolerance)))
        clock = Wiener(tolerance=tolerance, memory=1.0)
        caches.append(Contender(f"Wiener clock {tolerance:g}", "best", sampling, clock))
    few = {
        "DPM-Solver++ ODE": (DPMSolverPP("ode"), "logsnr"),
        "DPM-Solver++ SDE": (DPMSolverPP("sde"), "logsnr"),
        "exponential": (ExponentialWiener("sde"), "uniform"),
    }
    return [
        Contender(UNCACHED, "uncached", short),
        Contender(PUBLISHED, "published", short, E2CRF(preset="paper", reuse="kv")),
        *caches,
        *(
            Contender(
                f"{name}, {FEW_STEPS} steps", "solver", replace(sampling, solver=s, grid=g, num_steps=FEW_STEPS)
            )  # type: ignore[arg-type]
            for name, (s, g) in few.items()
        ),
    ]


def entries(module: ScoreModule, network: nn.Module, sampling: Sampling, args: Any) -> list[Entry]:
    """Return all contenders at one batch size, the reference design first."""
    steps = min(args.reference_steps or sampling.num_steps, sampling.num_steps)
    bench, layout = Bench(module, sampling), module.layout
    z = torch.randn(sampling.batch_size, layout.length, layout.channels, device=args.device)
    times, units = uniform_times(sampling.num_steps)[: steps + 1], len(sampling.units())

    def reference(times: list[float], count: int) -> None:
        for _ in range(count):
            reference_steps(network, z, times)

    whole, warm = partial(reference, times, units), partial(reference, times[:3], 1)
    found = [Entry(REFERENCE, "reference", whole, warm, None, steps, args.bf16)]
    ours = contenders(sampling, args.tolerances, replace(sampling, num_steps=steps))
    ways = [(contender, contender.kind, bench, args.bf16) for contender in ours]
    # The two that matter most, the uncached engine and the last cache, in the other ways of this machine as well.
    chosen = [next(c for c in ours if c.name == UNCACHED), [c for c in ours if c.kind == "best"][-1]]
    if args.other_ways and not args.bf16:
        ways += [(replace(c, name=f"{c.name}, bfloat16"), "way", bench, True) for c in chosen]
    if args.other_ways and not args.compile and sampling.batch_size <= FEW:
        fast = copy.deepcopy(module)
        fast.score.network.compiled = True
        by = Bench(fast, sampling)
        ways += [(replace(c, name=f"{c.name}, compiled"), "way", by, args.bf16) for c in chosen]
    for contender, kind, by, low in ways:
        run, brief = Run(contender), replace(contender.sampling, num_samples=sampling.batch_size, num_steps=4)
        job, warm = partial(by.draw, run), partial(by.draw, Run(replace(contender, sampling=brief)))
        timed = steps if contender.kind in FULL_COST else sampling.num_steps
        found.append(Entry(contender.name, kind, job, warm, run, timed, low))
    return found


def measure(
    module: ScoreModule, network: nn.Module, sampling: Sampling, evaluator: Evaluator | None, args: Any
) -> Iterator[dict[str, Any]]:
    """Yield the table of one batch size after every draw, so that a broken run leaves what it had."""
    found, mixed = entries(module, network, sampling, args), partial(autocast, args.device)
    base = None
    for entry in found:
        with mixed(entry.low):
            entry.warm()
    with mixed(args.bf16):
        if args.quality and sampling.batch_size == max(args.batches):
            count = min(args.quality_samples or sampling.num_samples, sampling.num_samples)
            base = Run(Contender("", "uncached", replace(sampling, num_samples=count)))
            print(f"  uncached in full, {count} series ...", flush=True)
            Bench(module, sampling).draw(base)
    rows: dict[str, dict[str, Any]] = {}
    for number in range(args.rounds):
        for entry in found:
            with mixed(entry.low):
                entry.seconds.append(sampling.num_steps / entry.steps * seconds(entry.job))
            if not number:
                rows[entry.name] = describe(entry, sampling, base, evaluator)
            row = rows[entry.name]
            row |= timing(entry, found, sampling)
            note = f"{row['ms_per_sample']:10.2f} ms a sample {row['over_reference']['ratio']:8.2f}x"
            note += f"  relative L2 {row['relative_l2']:.4f}" if "relative_l2" in row else ""
            print(f"  round {number + 1} {entry.name:<28}{note}", flush=True)
            yield {"batch": sampling.batch_size, "samples": sampling.num_samples, "rows": list(rows.values())}


def describe(entry: Entry, sampling: Sampling, base: Run | None, evaluator: Evaluator | None) -> dict[str, Any]:
    """Return what does not change from round to round: counts, relative L2, SW."""
    scaled = entry.steps < sampling.num_steps
    row: dict[str, Any] = {"name": entry.name, "kind": entry.kind, "network_calls": float(sampling.num_steps)}
    row["extrapolated_from_steps"] = entry.steps if scaled else None
    if entry.run is None or scaled:
        return row
    row |= {k: v for k, v in entry.run.totals.items() if k != "probe_error"}
    series = entry.run.series
    if base is None or base.series is None or series is None:
        return row
    series = series[: len(base.series)]
    if entry.kind != "solver":  # another path from the same noise: nothing to compare with
        row |= relative_l2(series, base.series)
    if evaluator is not None:
        row |= evaluator.changes(evaluator.distances(series), evaluator.distances(base.series))
    return row


def timing(entry: Entry, found: list[Entry], sampling: Sampling) -> dict[str, Any]:
    """Return times and ratios; the reference and the uncached engine come first in a round, and so are known."""
    taken, rounds = median(entry.seconds), len(entry.seconds)
    peers = {other.name: other.seconds[:rounds] for other in found if len(other.seconds) >= rounds}
    return {
        "seconds": list(entry.seconds),
        "ms_per_sample": 1e3 * taken / sampling.num_samples,
        "ms_per_sample_and_step": 1e3 * taken / sampling.num_samples / sampling.num_steps,
        "samples_per_second": sampling.num_samples / taken,
        "over_reference": ratio(peers[REFERENCE], entry.seconds),
        "over_uncached": ratio(peers[UNCACHED], entry.seconds) if UNCACHED in peers else None,
    }


def together(table: dict[str, Any]) -> dict[str, Any] | None:
    """Return the fastest cache within the bounds (relative L2 0.03, SW 1 %), or the fastest of all, against (a)."""
    rows = [row for row in table["rows"] if row["kind"] in ("cache", "best") and row["over_uncached"]]
    kept = [row for row in rows if within(row, 0.01, 0.03)]
    if not rows:
        return None
    best = max(kept or rows, key=lambda row: row["samples_per_second"])
    return {"cache": best["name"], "within_bounds": bool(kept)} | {
        k: best[k] for k in ("over_reference", "over_uncached")
    }


def within(row: dict[str, Any], sw: float, relative: float) -> bool:
    """Tell whether the damage is within bounds: SW in time and frequency, where it was measured, and relative L2."""
    changes = [row[f"sw_{d}_change"] for d in DOMAINS if row.get(f"sw_{d}_change") is not None]
    known = row.get("relative_l2")
    return known is not None and known < relative and all(abs(c) <= sw for c in changes)


def main() -> None:
    options = parser(__doc__, "peers.json")
    options.add_argument("--ckpt_path", type=Path, help="a small model is trained if not given")
    options.add_argument("--train_steps", type=int, default=2000, help="of that small model")
    options.add_argument("--train_folder", type=Path, default=Path("runs/bench"))
    options.add_argument("--data", default="synthetic", help="a file of FREQDIFF_DATA, synthetic, or none: no SW")
    options.add_argument("--batches", type=int, nargs="+", default=[1, 64])
    options.add_argument("--samples", type=int, default=64, help="drawn at the largest batch; else one batch")
    options.add_argument(
        "--quality_samples", type=int, default=0, help="of these, compared with uncached ones; 0: all"
    )
    options.add_argument("--steps", type=int, default=1000)
    options.add_argument("--reference_steps", type=int, default=0, help="time full-cost ways over so many; 0: all")
    options.add_argument("--tolerances", type=float, nargs="+", default=[Wiener().tolerance, 0.1])
    options.add_argument("--quality", type=int, choices=(0, 1), default=1, help="0: times only")
    options.add_argument(
        "--other_ways", type=int, choices=(0, 1), default=1, help="1: ours compiled and in bfloat16 as well"
    )
    options.add_argument("--compile", action="store_true", help="torch.compile, on both sides")
    options.add_argument("--bf16", action="store_true", help="mixed precision, on both sides")
    args = options.parse_args()
    result = begin(args)
    if args.ckpt_path:
        module = ScoreModule.load_from_checkpoint(args.ckpt_path, compile=args.compile)
    else:
        module = small_checkpoint(args.train_steps, args.train_folder, sampling_steps=args.steps)
    module, sizes, layout = module.to(args.device), sizes_of(module.architecture), module.layout
    network = ReferenceNetwork(layout.length, layout.channels, *sizes.values()).eval().to(args.device)
    network.compile() if args.compile else None
    evaluator = None if args.data == "none" or not args.quality else Evaluator(open_data(args.data))
    shape = [layout.length, layout.channels]
    result["trained_here"] = None if args.ckpt_path else args.train_steps
    result |= {"network": sizes, "paper_size": sizes == PAPER, "shape": shape, "batches": {}}
    for batch in args.batches:
        print(f"batch {batch}", flush=True)
        count = max(batch, args.samples) if batch == max(args.batches) else batch
        sampling = Sampling(num_samples=count, num_steps=args.steps, batch_size=batch)
        for table in measure(module, network, sampling, evaluator, args):
            result["batches"][batch] = table
            save(args.output, result)
        result["batches"][batch]["everything_together"] = together(result["batches"][batch])
        save(args.output, result)
    result["complete"] = True
    save(args.output, result)


if __name__ == "__main__":
    main()
