"""Time our uncached engine against the reference design on the same work: network call, full step, memory.

    python benchmarks/engine.py --output benchmarks/results/engine.json

Both networks have the papers' size; the two are timed in turn, and the ratio of medians is what counts.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from reference import ReferenceNetwork, reference_steps, uniform_times

from lightning_freqdiff.machine import describe_machine
from lightning_freqdiff.networks import Transformer
from lightning_freqdiff.sampling import Sampling, WorkUnit, sample
from lightning_freqdiff.score import Score
from lightning_freqdiff.sde import VP
from lightning_freqdiff.spectral import Representation


def alternate(jobs: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Time jobs in turn and return the median seconds of each, after one warm-up of all."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for i in range(rounds + 1):
        for name, job in jobs.items():
            since = time.perf_counter()
            job()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if i:
                seconds[name].append(time.perf_counter() - since)
    return {name: median(values) for name, values in seconds.items()}


def peak_memory(length: int, channels: int, batch: int) -> dict[str, float]:
    """Measure the growth of a fresh process's peak memory over one network call, in MiB."""
    peaks = {}
    for name in ("reference", "ours"):
        code = (
            f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import engine; "
            f"print(engine.growth({name!r}, {length}, {channels}, {batch}))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        peaks[name] = float(done.stdout)
    return peaks


def growth(name: str, length: int, channels: int, batch: int) -> float:
    layout = Representation("frequency", length, channels)
    with torch.no_grad():
        if name == "ours":
            score = Score(Transformer(preset="paper"), VP(), "wiener", layout).eval()
            z, call = torch.randn(batch, layout.tokens, layout.features), lambda z: score(z, torch.tensor(0.5))
        else:
            network = ReferenceNetwork(length, channels).eval()
            z, call = torch.randn(batch, length, channels), lambda z: network(z, torch.full((len(z),), 0.5))
        call(z[:1])
        Path("/proc/self/clear_refs").write_text("5")  # the kernel's peak starts anew from the present size
        before = memory("VmRSS")
        call(z)
        return memory("VmHWM") - before


def memory(name: str) -> float:
    """Read one of this process's memory figures from Linux, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def measure(length: int, channels: int, batch: int, steps: int, rounds: int) -> dict[str, Any]:
    layout = Representation("frequency", length, channels)
    score = Score(Transformer(preset="paper"), VP(), "wiener", layout).eval()
    reference = ReferenceNetwork(length, channels).eval()
    for parameter in score.network.parameters():  # a zero head would make the work look easier to predict
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    whole = Score(Transformer(preset="paper"), VP(), "wiener", layout).eval()
    whole.network.cpu_piece = 2**20  # type: ignore[assignment]
    z_half, z_full = torch.randn(batch, layout.tokens, layout.features), torch.randn(batch, length, channels)
    t, times = torch.tensor(0.5), torch.full((batch,), 0.5)
    settings = Sampling(num_samples=batch, num_steps=steps, batch_size=batch)
    jobs = {
        "reference_call": lambda: reference(z_full, times),
        "ours_call": lambda: score(z_half, t),
        "ours_call_in_one_piece": lambda: whole(z_half, t),
        "reference_step": lambda: reference_steps(reference, z_full, uniform_times(steps)),
        "ours_step": lambda: sample(score, VP(), score.noise_scale, WorkUnit(0, 0, batch), settings),
    }
    with torch.no_grad():
        seconds = alternate(jobs, rounds)
    per_sample = {k: 1e3 * v / batch / (steps if k.endswith("step") else 1) for k, v in seconds.items()}
    return {
        "length": length,
        "channels": channels,
        "batch": batch,
        "ms_per_sample": per_sample,
        "call_ratio": seconds["reference_call"] / seconds["ours_call"],
        "pieces_ratio": seconds["ours_call_in_one_piece"] / seconds["ours_call"],
        "step_ratio": seconds["reference_step"] / seconds["ours_step"],
        "peak_mib": peak_memory(length, channels, batch),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    rows = [measure(187, 1, batch, args.steps, args.rounds) for batch in args.batches]
    for row in rows:
        print(json.dumps(row, indent=1), flush=True)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps({"machine": describe_machine(), "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
