"""How close a network call is to this machine's limit, where its time goes, and how cost grows.

    python benchmarks/limits.py --output benchmarks/results/limits.json

FLOPs and bytes are worked out by formula; the peak they are held against is measured here, by a large matrix product.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any, cast

import torch
from common import SIZES, alternate, autocast, begin, fill_zeros, parser, save, seconds
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from lightning_freqdiff.caching import CachedScore, Wiener
from lightning_freqdiff.diffusion.score import Score
from lightning_freqdiff.diffusion.sde import VP
from lightning_freqdiff.domains import Representation
from lightning_freqdiff.networks import Transformer
from lightning_freqdiff.networks.flops import count_flops
from lightning_freqdiff.networks.plain import EncoderBlock, PlainTransformer
from lightning_freqdiff.sampling.loop import Sampling, WorkUnit, sample

# The first group with a word in an operator's name is the operator's.
GROUPS = {
    "attention": ("attention", "flash", "softmax", "sdpa", "fmha", "bmm", "exp_", "vector_norm", "::amax", "::sum"),
    "matrix products": ("mm", "linear", "gemm", "matmul", "cutlass", "xmma"),
    "layer norm": ("layer_norm",),
    "activation": ("relu", "silu", "gelu", "clamp_min"),
    "copies": ("copy", "cat", "clone", "contiguous", "memcpy", "memset"),
}


def make(length: int, channels: int, device: str, **sizes: Any) -> Score:
    """Return a score with random weights that are not zero."""
    layout = Representation("frequency", length, channels)
    score = Score(Transformer(**sizes), VP(), "wiener", layout).eval()
    fill_zeros(score.network)
    return score.to(device)


def call(score: Score, batch: int) -> Callable[[], Tensor]:
    """Return a job that makes one network call."""
    z = torch.randn(batch, *score.noise_scale.shape, device=score.noise_scale.device)
    t = torch.tensor(0.5, device=z.device)
    return lambda: score(z, t)


def flops(score: Score) -> int:
    """Count the FLOPs of one call for one sample: blocks, embedding, head (time is embedded once for a batch)."""
    network, z = score.network, torch.zeros(1, *score.noise_scale.shape, device=score.noise_scale.device)
    assert isinstance(network, PlainTransformer)
    return count_flops(lambda: network.head(network.blocks(network.token(z), None)))


def traffic(score: Score, batch: int) -> dict[str, float]:
    """Work out the bytes of a call in float32: at the very least, and if every operator reads and writes memory."""
    network = score.network
    assert isinstance(network, PlainTransformer)
    block = cast(EncoderBlock, network.layers[0])
    tokens, layers, (hidden, width) = network.tokens, len(network.layers), block.expand.weight.shape
    weights = sum(p.numel() for p in network.parameters())
    ends = 2 * tokens * score.noise_scale.shape[1]
    # Numbers read and written a token: norm 2d, QKV d + 3d, attention 3d + d, projection 2d, sum 3d, norm 2d,
    # expansion d + f, activation 2f, contraction f + d, sum 3d.
    each = layers * (21 * width + 4 * hidden)
    least, all_of_it = (4 * (weights + batch * n) for n in (ends, ends + tokens * each))
    work = batch * flops(score)
    return {
        "flops": work,
        "bytes_least": least,
        "bytes_operator_by_operator": all_of_it,
        "flops_per_byte_least": work / least,
        "flops_per_byte_operator_by_operator": work / all_of_it,
    }


def peak(device: str, size: int, dtype: torch.dtype, rounds: int) -> float:
    """Return the FLOP/s of a large square matrix product, the best of all rounds."""
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    times = alternate({"product": lambda: a @ b}, rounds)["product"]
    return 2 * size**3 / min(times)


def shares(job: Callable[[], Any], device: str, repeats: int) -> list[dict[str, Any]]:
    """Profile a job, and return the share of every group of operators, the largest first."""
    job()
    on_gpu = torch.device(device).type == "cuda"
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if on_gpu else [])
    with profile(activities=activities) as watched:
        wall = seconds(lambda: [job() for _ in range(repeats)])
    sums: dict[str, float] = {}
    operators: dict[str, float] = {}
    for event in watched.key_averages():
        if not str(event.device_type).endswith("CPU"):
            continue  # a kernel: its time is its operator's already
        spent = float(event.self_device_time_total if on_gpu else event.self_cpu_time_total) / 1e6
        name = event.key.lower()
        group = next((g for g, words in GROUPS.items() if any(word in name for word in words)), "rest")
        sums[group] = sums.get(group, 0.0) + spent
        operators[event.key[:80]] = spent
    inside = sum(sums.values())
    sums["outside operators"] = max(0.0, wall - inside)  # Python between them; on a GPU, waiting for it as well
    rows = [{"group": g, "share": s / max(wall, inside)} for g, s in sums.items()]
    top = sorted(operators, key=lambda name: -operators[name])[:8]
    note = [{"group": f"operator {name}", "share": operators[name] / max(wall, inside)} for name in top]
    return sorted(rows, key=lambda row: -row["share"]) + note


def growth(base: dict[str, Any], batch: int, device: str, rounds: int, tiny: bool) -> list[dict[str, Any]]:
    """Time a call as one of length, channels, depth and batch grows, the others as they are."""
    points = {"length": (2, 4), "channels": (1, 2), "layers": (1, 2), "batch": (1, 2)}
    if not tiny:
        points = {
            "length": (94, 187, 374, 748),
            "channels": (1, 4, 16),
            "layers": (5, 10, 20),
            "batch": (1, 4, 16, 64),
        }
    rows = []
    for what, values in points.items():
        scores = {
            value: make(device=device, **(base | ({} if what == "batch" else {what: value}))) for value in values
        }
        counts = {value: value if what == "batch" else batch for value in values}
        jobs = {str(value): call(score, counts[value]) for value, score in scores.items()}
        times = {name: median(taken) for name, taken in alternate(jobs, rounds).items()}
        for value, score in scores.items():
            work = counts[value] * flops(score)
            rows.append({"what": what, "value": value, "ms": 1e3 * times[str(value)], "flops": work})
        print("  " + ", ".join(f"{what} {v}: {1e3 * t:.2f} ms" for v, t in times.items()), flush=True)
    return rows


def run_growth(score: Score, batch: int, steps: list[int], rounds: int) -> list[dict[str, Any]]:
    """Time an uncached run as the number of steps grows."""
    jobs = {}
    for count in steps:
        sampling = Sampling(num_steps=count)
        jobs[str(count)] = lambda s=sampling: sample(score, VP(), score.codec, WorkUnit(0, 0, batch), s)
    times = alternate(jobs, rounds)
    return [{"what": "steps", "value": n, "ms": 1e3 * median(times[str(n)])} for n in steps]


def million(seconds_per_sample_and_step: float, speedup: float, on_gpu: bool) -> list[dict[str, Any]]:
    """Work out what a million samples at 1,000 steps cost, from the throughput that was measured."""
    unit = "GPU hours" if on_gpu else "hours of this CPU"
    rows = []
    for name, factor in (("uncached", 1.0), ("with the speedup given", speedup)):
        hours = 1e6 * 1000 * seconds_per_sample_and_step / 3600 / factor
        rows += [{"how": name, "devices": n, "wall_hours": hours / n, "cost": hours, "unit": unit} for n in (1, 8)]
    return rows


@torch.no_grad()
def main() -> None:
    options = parser(__doc__, "limits.json")
    options.add_argument("--length", type=int, default=187)
    options.add_argument("--channels", type=int, default=1)
    options.add_argument("--preset", choices=("plain", "paper"), default="paper")
    options.add_argument("--batches", type=int, nargs="+", default=[1, 64, 1024])
    options.add_argument("--growth_batch", type=int, default=8, help="batch while another size grows")
    options.add_argument("--growth_steps", type=int, nargs="+", default=[10, 20, 40])
    options.add_argument("--peak_size", type=int, default=0, help="of the matrix product; 2,048, on a GPU 8,192")
    options.add_argument("--speedup", type=float, default=20.0, help="of a cache, for what a million samples cost")
    options.add_argument("--tiny", action="store_true", help="tiny sizes, to see that it runs")
    args = options.parse_args()
    result, on_gpu = begin(args), torch.device(args.device).type == "cuda"
    size, device, rounds = args.peak_size or (8192 if on_gpu else 2048), args.device, args.rounds
    base = {"length": args.length, "channels": args.channels, "preset": args.preset}
    score = make(device=device, **base)
    result["network"] = {name: Transformer(preset=args.preset).setting(name) for name in SIZES}

    kinds = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    result["peak_flops"] = {name: peak(device, size, dtype, rounds + 2) for name, dtype in kinds.items()}
    if on_gpu:
        torch.backends.cuda.matmul.allow_tf32 = True
        result["peak_flops"]["tf32"] = peak(device, size, torch.float32, rounds + 2)
        torch.backends.cuda.matmul.allow_tf32 = False
    print({name: f"{value / 1e9:.0f} GFLOP/s" for name, value in result["peak_flops"].items()}, flush=True)

    result["calls"] = []
    for batch in args.batches:
        job = call(score, batch)

        def mixed(job: Callable[[], Tensor] = job) -> Tensor:
            with autocast(device, True):
                return job()

        times = {name: median(t) for name, t in alternate({"float32": job, "bfloat16": mixed}, rounds).items()}
        # The linear part of the score is exact in both: it is the network's own output that rounding can hurt.
        z, t = torch.randn(batch, *score.noise_scale.shape, device=device), torch.tensor(0.5, device=device)
        plain = score.network(z, t)
        with autocast(device, True):
            other = score.network(z, t).float()
        row = {"batch": batch, **traffic(score, batch), "seconds": times}
        row["share_of_peak"] = {n: row["flops"] / t / result["peak_flops"][n] for n, t in times.items()}
        row["bf16_time_ratio"] = times["float32"] / times["bfloat16"]
        row["bf16_relative_error"] = float((other - plain).norm() / plain.norm())
        result["calls"].append(row)
        shown = {n: f"{s:.1%}" for n, s in row["share_of_peak"].items()}
        print(f"batch {batch}: {1e3 * times['float32']:.2f} ms, share of peak {shown}", flush=True)
        save(args.output, result)

    print("profile", flush=True)
    result["profile"] = {}
    unit = WorkUnit(0, 0, 1)
    few = Sampling(num_steps=20 if args.tiny else 200)
    most = 4 if args.tiny else 64
    jobs = {f"network call, batch {b}": (call(score, b), max(1, most // b)) for b in args.batches[:2]}
    jobs["uncached step, batch 1"] = (lambda: sample(score, VP(), score.codec, unit, Sampling(num_steps=8)), 1)
    cached = CachedScore(score, Wiener(), few.num_steps)
    jobs["Wiener cache, batch 1"] = (lambda: sample(cached, VP(), score.codec, unit, few), 1)
    for name, (job, repeats) in jobs.items():
        result["profile"][name] = shares(job, device, repeats)
    save(args.output, result)

    print("growth", flush=True)
    result["growth"] = growth(base, 2 if args.tiny else args.growth_batch, device, rounds, args.tiny)
    result["growth"] += run_growth(score, args.growth_batch, args.growth_steps, rounds)
    best = min(row["seconds"]["float32"] / row["batch"] for row in result["calls"])
    result["million_samples"] = million(best, args.speedup, on_gpu)
    result["complete"] = True
    save(args.output, result)


if __name__ == "__main__":
    main()
