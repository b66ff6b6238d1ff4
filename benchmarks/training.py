"""Training samples per second against the reference design, and steps to a given validation loss.

    python benchmarks/training.py --output benchmarks/results/training.json
    python benchmarks/training.py --to_loss --output benchmarks/results/training.json

Both sides make whole training steps on the same batches, with networks of the same size: transform of the series,
noising, loss, backward pass, AdamW. The reference runs its network on ``N`` tokens and noises with dense ``N x N``
matrices, as published. `--to_loss` trains small models with and without what is ours in training, on the embedded
heartbeats, and holds all against one loss: the mean squared error of the noise prediction at uniform times.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from common import SIZES, alternate, autocast, begin, parser, ratio, save, sizes_of
from reference import ReferenceNetwork, reference_scale
from torch import Tensor, nn

from lightning_freqdiff.data import Batch, SyntheticECG
from lightning_freqdiff.diffusion.losses import score_matching_loss, stratified_times
from lightning_freqdiff.diffusion.sde import T_MIN, VP
from lightning_freqdiff.domains import to_half_spectrum
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.networks import Transformer

LEARNING_RATE = 1e-3
VARIANTS = {
    # Name: parametrisation, density of the training times, whether they are stratified.
    "noise prediction, independent times": ("eps", "uniform", False),
    "noise prediction, stratified times": ("eps", "uniform", True),
    "Wiener form, independent times": ("wiener", "uniform", False),
    "Wiener form, stratified times": ("wiener", "uniform", True),
    "Wiener form, stratified lognormal times (ours)": ("wiener", "lognormal", True),
}


class Timed(ScoreModule):
    """The module without a trainer to log to."""

    def log(self, *args: Any, **kwargs: Any) -> None:
        """Log nothing."""


def reference_loss(network: nn.Module, x: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """Return the published loss of series ``(B, N, M)``: the score's error over ``tr Σ⁻¹``."""
    sde, tokens = VP(), x.shape[1] // 2 + 1
    real, imaginary = to_half_spectrum(x).chunk(2, dim=-1)
    z0 = torch.cat([real, imaginary[:, 1 : x.shape[1] - tokens + 1]], dim=1)  # N numbers, as the text lays them out
    z0 = (z0 - mean) / deviation
    t = T_MIN + (1 - T_MIN) * torch.rand(len(x), device=x.device)
    scale = sde.sigma(t).unsqueeze(1) * reference_scale(x.shape[1]).to(x.device)
    spread = torch.diag_embed(scale)  # (B, N, N), as published
    noise = torch.randn_like(z0)
    zt = sde.alpha(t).view(-1, 1, 1) * z0 + torch.matmul(spread, noise)
    target = -torch.matmul(torch.diag_embed(1 / scale), noise)
    weight = 1 / scale.square().reciprocal().sum(1)
    return (weight.view(-1, 1, 1) * (network(zt, t).float() - target).square()).mean()


def reference_step(batches: list[Tensor], network: nn.Module, bf16: bool) -> Callable[[], None]:
    """Return a job that makes one training step of the reference design on every batch."""
    device = batches[0].device
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE)
    mean, deviation = (
        torch.zeros(batches[0].shape[1:], device=device),
        torch.ones(batches[0].shape[1:], device=device),
    )

    def step() -> None:
        for x in batches:
            with autocast(device.type, bf16):
                loss = reference_loss(network, x, mean, deviation)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return step


def our_step(batches: list[Tensor], module: ScoreModule, bf16: bool, fused: bool) -> Callable[[], None]:
    """Return a job that makes one training step of ours on every batch."""
    device = batches[0].device
    optimizer = torch.optim.AdamW(module.parameters(), LEARNING_RATE, betas=(0.9, 0.99), fused=fused)

    def step() -> None:
        for x in batches:
            with autocast(device.type, bf16):
                loss = module.training_step(Batch(x), 0)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return step


def throughput(args: Any, result: dict[str, Any]) -> dict[str, Any]:
    """Time training steps of both designs in turn."""
    torch.manual_seed(0)
    batches = [torch.randn(args.batch, args.length, args.channels, device=args.device) for _ in range(args.steps)]
    architecture = Transformer(preset=args.preset)
    sizes, on_gpu = sizes_of(architecture), torch.device(args.device).type == "cuda"

    def reference(compiled: bool = False, bf16: bool = False) -> Callable[[], None]:
        network = ReferenceNetwork(args.length, args.channels, *(sizes[name] for name in SIZES)).to(args.device)
        network.compile() if compiled else None
        return reference_step(batches, network.train(), bf16)

    def ours(compiled: bool = False, bf16: bool = False, fused: bool = on_gpu) -> Callable[[], None]:
        module = Timed(architecture, compile=compiled, shape=(args.length, args.channels)).to(args.device)
        return our_step(batches, module.train(), bf16, fused)

    jobs = {"reference design": reference(), "ours": ours()}
    if not on_gpu:
        jobs["ours, fused AdamW"] = ours(fused=True)  # the module asks for it on a GPU only
    if args.bf16:
        jobs |= {"reference design, bf16": reference(bf16=True), "ours, bf16": ours(bf16=True)}
    if args.compile:
        jobs |= {"reference design, compiled": reference(compiled=True), "ours, compiled": ours(compiled=True)}
        if args.bf16:
            jobs["ours, compiled, bf16"] = ours(compiled=True, bf16=True)
            jobs["reference design, compiled, bf16"] = reference(compiled=True, bf16=True)
    times = alternate(jobs, args.rounds)
    rows = []
    for name, taken in times.items():
        base = "reference design" + name.removeprefix("ours").replace(", fused AdamW", "")  # same precision
        row = {"name": name, "seconds": taken, "samples_per_second": args.batch * args.steps / median(taken)}
        if name.startswith("ours"):
            row |= {"against": base, "over_reference": ratio(times[base], taken)}
        rows.append(row)
        print(f"{name:<34}{row['samples_per_second']:10.1f} series/s", flush=True)
    return result | {"network": sizes, "shape": [args.length, args.channels], "batch": args.batch, "rows": rows}


def curve(variant: tuple[Any, Any, bool], args: Any) -> list[dict[str, float]]:
    """Train one variant, and return its validation loss over steps and seconds of training."""
    parametrization, density, stratified = variant
    torch.manual_seed(0)
    data = SyntheticECG(num_series=args.loss_series)
    architecture = Transformer(layers=2, heads=4, width=32, feedforward=64) if args.tiny else Transformer()
    module = Timed(architecture, parametrization=parametrization, times=density, shape=data.shape).to(args.device)
    module.score.codec.fit(data.train_batches(4096))
    score, held = module.score, module.score.codec.encode(data.val_series()[:512].to(args.device))
    optimizer = torch.optim.AdamW(module.parameters(), 3e-3, betas=(0.9, 0.99), weight_decay=0.01)
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.loss_steps)
    generator = torch.Generator().manual_seed(1)
    late = stratified_times(module.validation_times, len(held), generator)
    noise = torch.randn(held.shape, generator=generator).to(held)
    table, found, spent, order = data.train_series().to(args.device), [], 0.0, torch.Generator().manual_seed(2)
    for step in range(args.loss_steps):
        since = time.perf_counter()
        z0 = score.codec.encode(table[torch.randint(len(table), (args.batch,), generator=order).to(args.device)])
        quantiles = module.training_times
        t = stratified_times(quantiles, len(z0))
        if not stratified:
            place = torch.rand(len(z0)) * (len(quantiles) - 1)
            t = torch.lerp(quantiles[place.long()], quantiles[place.long() + 1], place.frac().to(quantiles.device))
        loss = score_matching_loss(score, z0, torch.randn_like(z0), t, module.weighting)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        fall.step()
        spent += time.perf_counter() - since
        if step % args.loss_every == args.loss_every - 1 or step == args.loss_steps - 1:
            with torch.no_grad():
                value = float(score_matching_loss(score, held, noise, late, "eps"))
            found.append({"step": step + 1, "seconds": spent, "loss": value})
    return found


def to_loss(args: Any, result: dict[str, Any]) -> dict[str, Any]:
    """Train all variants, and find when each came to the loss asked for: by default the best of the plainest."""
    rows = []
    for name, variant in VARIANTS.items():
        rows.append({"name": name, "curve": curve(variant, args)})
        print(f"{name:<50} loss {rows[-1]['curve'][-1]['loss']:.5f}", flush=True)
        save(args.output, result | {"to_loss": {"rows": rows}})
    goal = args.to_loss if args.to_loss > 0 else min(point["loss"] for point in rows[0]["curve"])
    for row in rows:
        reached = next((point for point in row["curve"] if point["loss"] <= goal), None)
        row |= {"last_loss": row["curve"][-1]["loss"], "reached_at": reached}
    return result | {"to_loss": {"goal": goal, "rows": rows}}


def main() -> None:
    options = parser(__doc__, "training.json")
    options.add_argument("--length", type=int, default=187)
    options.add_argument("--channels", type=int, default=1)
    options.add_argument("--preset", choices=("plain", "paper"), default="paper")
    options.add_argument("--batch", type=int, default=64)
    options.add_argument("--steps", type=int, default=2, help="training steps of a timing")
    options.add_argument("--compile", action="store_true", help="compiled networks as well, on both sides")
    options.add_argument("--bf16", action="store_true", help="mixed precision as well, on both sides")
    options.add_argument("--to_loss", type=float, nargs="?", const=0.0, default=math.nan, help="loss to come to")
    options.add_argument("--loss_steps", type=int, default=400)
    options.add_argument("--loss_every", type=int, default=20)
    options.add_argument("--loss_series", type=int, default=8192)
    options.add_argument("--tiny", action="store_true", help="a tiny model for --to_loss, to see that it runs")
    args = options.parse_args()
    result = throughput(args, begin(args))
    save(args.output, result)
    if args.to_loss == args.to_loss:
        result = to_loss(args, result)
    save(args.output, result | {"complete": True})


if __name__ == "__main__":
    main()
