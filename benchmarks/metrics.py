"""Time the sliced Wasserstein distance against POT's, on the CPU.

    python benchmarks/metrics.py --threads 2 --output benchmarks/results/metrics.json

Every repetition runs all contenders one after the other, so that what else the machine does falls on all
of them; the first repetition warms up and is not counted. Both libraries get the same float32 samples.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

LOAD_BEFORE = os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--samples", type=int, default=10_000, help="generated samples, and reference samples")
    parser.add_argument("--unequal", type=int, default=8_777, help="reference samples of the second case")
    parser.add_argument("--directions", type=int, default=1000, help="random directions")
    parser.add_argument("--dim", type=int, default=187, help="length of a sample (187: the ECG data set)")
    parser.add_argument("--threads", type=int, default=2, help="threads of PyTorch and of NumPy's BLAS")
    parser.add_argument("--repeats", type=int, default=5, help="repetitions that count")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    return parser.parse_args()


def alternate(contenders: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Return the seconds each contender took, ``repeats`` times in turns, after one turn to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(repeats + 1):
        for name, call in contenders.items():
            start = time.perf_counter()
            call()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def measure(count: int, args: argparse.Namespace) -> dict[str, Any]:
    """Time all contenders on ``args.samples`` against ``count`` samples, and compare their values."""
    import ot
    import torch

    from lightning_freqdiff.metrics import SortedReference, random_directions, sliced_distances

    generator = torch.Generator().manual_seed(0)
    a = torch.randn(args.samples, args.dim, generator=generator)
    b = torch.randn(count, args.dim, generator=generator) * 1.1 + 0.1
    a_np, b_np = a.numpy(), b.numpy()
    directions, ready = range(args.directions), SortedReference.build(b, args.directions)
    contenders = {
        "ours": lambda: sliced_distances(a, b, directions),
        "ours, sorted reference": lambda: sliced_distances(a, ready, directions),
        "POT, NumPy": lambda: ot.sliced_wasserstein_distance(a_np, b_np, n_projections=args.directions, seed=0),
        "POT, PyTorch": lambda: ot.sliced_wasserstein_distance(a, b, n_projections=args.directions, seed=0),
    }
    seconds = alternate(contenders, args.repeats)

    checked = min(args.directions, 50)
    u = random_directions(checked, args.dim).double()
    x, y = ((u @ samples.double().T).T.numpy() for samples in (a, b))
    power: Any = ot.wasserstein_1d(x, y, p=2)
    expected = torch.from_numpy(power).sqrt()
    error = (sliced_distances(a, b, range(checked)) / expected - 1).abs().max()
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    return {
        "reference_samples": count,
        "median_s": medians,
        "all_s": seconds,
        "speedup_over_pot_numpy": medians["POT, NumPy"] / medians["ours"],
        "speedup_over_pot_torch": medians["POT, PyTorch"] / medians["ours"],
        "max_relative_difference_per_direction": float(error),
    }


def machine(threads: int) -> dict[str, Any]:
    """Describe what the figures were measured on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "load_average_before": LOAD_BEFORE,  # what else was running
        "threads": threads,
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "numpy", "POT")},
    }


def main() -> None:
    args = parse()
    # NumPy's BLAS reads this when it is loaded, so nothing above may import it.
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(args.threads)
    import torch

    torch.set_num_threads(args.threads)
    cases = [measure(count, args) for count in (args.samples, args.unequal)]
    settings = {name: getattr(args, name) for name in ("samples", "directions", "dim", "repeats")}
    result = {"machine": machine(args.threads), "settings": settings, "cases": cases}
    for case in cases:
        print(f"\n{args.samples} against {case['reference_samples']} samples, {args.directions} directions")
        for name, seconds in case["median_s"].items():
            print(f"  {name:<24}{seconds:9.3f} s {seconds / case['median_s']['ours']:8.2f} x")
        print(f"  largest relative difference {case['max_relative_difference_per_direction']:.1e}")
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
