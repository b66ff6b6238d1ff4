"""Time our uncached engine against the reference design on the same work, both in several ways: steps, memory, error.

    python benchmarks/engine.py --output benchmarks/results/engine.json

Both networks have the papers' size. Every way of either (float32, compiled, bfloat16) is timed in turn, and the ratio
of medians is what counts: to the reference done in the same way, and to the fastest float32 way of it.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from common import alternate, autocast, begin, fill_zeros, parser, save
from reference import ReferenceNetwork, reference_steps, uniform_times
from torch import Tensor, nn

from lightning_freqdiff.diffusion.score import Score
from lightning_freqdiff.diffusion.sde import VP
from lightning_freqdiff.domains import Representation
from lightning_freqdiff.networks import Transformer
from lightning_freqdiff.sampling.loop import Sampling, WorkUnit, sample

WAYS = {"float32": (False, False), "compiled": (True, False), "bfloat16": (False, True), "both": (True, True)}
"""Whether compiled, and whether in bfloat16 (autocast)."""


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


def within(device: str, low: bool, job: Callable[[], Any]) -> Any:
    """Do a job at a precision."""
    with autocast(device, low):
        return job()


def pair(make: Callable[[], nn.Module], device: str) -> tuple[Any, Any]:
    """Make two networks with the same weights, none of them zero."""
    first, second = make().eval(), make().eval()
    second.load_state_dict(fill_zeros(first).state_dict())
    return first.to(device), second.to(device)


def jobs_of(
    length: int, channels: int, batch: int, steps: int, device: str
) -> tuple[dict[str, Callable[[], Any]], dict[str, Callable[[], Tensor]]]:
    """Return jobs of some steps for every way of either side, and of our raw output in every way."""
    layout = Representation("frequency", length, channels)
    score, fast = pair(lambda: Score(Transformer(preset="paper"), VP(), "wiener", layout), device)
    fast.network.compiled = True
    reference, compiled = pair(lambda: ReferenceNetwork(length, channels), device)
    compiled.compile()
    z = torch.randn(batch, *score.noise_scale.shape, device=device)
    z_full, t = torch.randn(batch, length, channels, device=device), torch.tensor(0.5, device=device)
    times, few = uniform_times(steps), Sampling(num_samples=batch, num_steps=steps, batch_size=batch)
    jobs: dict[str, Callable[[], Any]] = {}
    raw: dict[str, Callable[[], Tensor]] = {}

    def network(score: Score) -> Tensor:
        return score.network(z, t)

    def ours(score: Score) -> Tensor:
        return sample(score, VP(), score.codec, WorkUnit(0, 0, batch), few)

    def theirs(network: nn.Module) -> Tensor:
        return reference_steps(network, z_full, times)

    for way, (compile, low) in WAYS.items():
        jobs[f"reference {way}"] = partial(within, device, low, partial(theirs, compiled if compile else reference))
        jobs[f"ours {way}"] = partial(within, device, low, partial(ours, fast if compile else score))
        raw[way] = partial(within, device, low, partial(network, fast if compile else score))
    return jobs, raw


@torch.no_grad()
def measure(length: int, channels: int, batch: int, steps: int, rounds: int, device: str) -> dict[str, Any]:
    """Time one batch size."""
    jobs, raw = jobs_of(length, channels, batch, steps, device)
    seconds = alternate(jobs, rounds)
    taken = {name: median(times) for name, times in seconds.items()}
    best = min(taken[f"reference {way}"] for way in ("float32", "compiled"))
    plain = raw["float32"]()
    rows = []
    for name, each in taken.items():
        side, way = name.split()
        row = {
            "side": side,
            "way": way,
            "ms_per_sample": 1e3 * each / batch / steps,
            "over_best_float32": best / each,
        }
        row["over_same_way"] = taken[f"reference {way}"] / each
        if side == "ours":
            row["relative_error"] = float((raw[way]().float() - plain).norm() / plain.norm())
        rows.append(row)
    ours = min(taken[f"ours {way}"] for way in ("float32", "compiled"))
    return {
        "length": length,
        "channels": channels,
        "batch": batch,
        "ways": rows,
        "step_ratio": taken["reference float32"] / taken["ours float32"],
        "best_ratio": best / ours,
        "peak_mib": peak_memory(length, channels, batch) if device == "cpu" else None,
    }


def main() -> None:
    options = parser(__doc__, "engine.json")
    options.add_argument("--steps", type=int, default=4)
    options.add_argument("--batches", type=int, nargs="+", default=[1, 64])
    args = options.parse_args()
    result = begin(args) | {"rows": []}
    for batch in args.batches:
        row = measure(187, 1, batch, args.steps if batch > 1 else 10 * args.steps, args.rounds, args.device)
        for way in row["ways"]:
            print(
                f"batch {batch} {way['side']:<10} {way['way']:<9} {way['ms_per_sample']:7.2f} ms a sample and step",
                end="",
            )
            print(f" {way['over_best_float32']:6.2f}x the fastest float32 reference", flush=True)
        result["rows"].append(row)
        save(args.output, result)
    save(args.output, result | {"complete": True})


if __name__ == "__main__":
    main()
