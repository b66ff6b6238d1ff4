"""The pieces that want a GPU, each within ten minutes: train at paper size, draw 10,000 series, time SW against POT.

    python benchmarks/gpu.py train --data ecg                      # weights to benchmarks/checkpoints
    python benchmarks/gpu.py sample --data ecg --cache uncached    # again with --cache wiener, e2crf, ...
    python benchmarks/gpu.py pot
    python benchmarks/gpu.py unpack --data ecg --output runs/gpu/ecg.ckpt   # for `predict` and for peers.py

Data sets are found through ``FREQDIFF_DATA``. `sample` stops when its minutes are over, and goes on where it stopped
when it is called again; its speedups are of throughput, of runs one after the other (`peers.py` alternates). `--tiny`
does all of it in seconds, on embedded data and a CPU.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS, alternate, autocast, begin, flat, measure, parser, ratio, save
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint

from lightning_freqdiff.caching import CachedScore
from lightning_freqdiff.callbacks.presets import read_preset
from lightning_freqdiff.checkpoint import MARK, read_checkpoint, weights_hash
from lightning_freqdiff.data import ECG, NASA, NASDAQ, SeriesData, SyntheticECG
from lightning_freqdiff.evaluation.evaluator import Evaluator
from lightning_freqdiff.metrics import SortedReference, relative_l2, sliced_distances
from lightning_freqdiff.metrics.sliced_wasserstein import summarize
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.networks import Transformer
from lightning_freqdiff.sampling.loop import Sampling, sample

CHECKPOINTS = Path(__file__).parent / "checkpoints"
PRESETS = Path(__file__).parents[1] / "callbacks"
LARGEST = 8 * 2**20
TRIAL_STEPS = 40
SHARE_OF_TIME = 0.85  # of the minutes, for training itself: the rest is validation, start and end


def open_set(name: str, tiny: bool) -> SeriesData:
    """Open a data set of the papers."""
    if tiny:
        return SyntheticECG(num_series=96, length=16, batch_size=16)
    folder = os.environ.get("FREQDIFF_DATA")
    if folder is None:
        raise SystemExit("set FREQDIFF_DATA to the folder of the data sets, or use --tiny")
    match name:
        case "ecg":
            return ECG(path=folder)
        case "nasdaq":
            return NASDAQ(path=folder)
    return NASA("charge" if name == "nasa-charge" else "discharge", path=folder, batch_size=16)


def safetensors() -> Any:
    """Import safetensors, which only the weights kept here need."""
    try:
        import safetensors.torch as library
    except ImportError as error:
        raise SystemExit("weights are kept as safetensors: pip install safetensors") from error
    return library


def pack(checkpoint: Path, target: Path, facts: dict[str, Any]) -> None:
    """Keep a checkpoint as safetensors and JSON: parameters in bf16, everything else as it is.

    Buffers stay in float32: rounding the frequencies of the time embedding, up to hundreds of radians, would give
    another network.
    """
    content = read_checkpoint(checkpoint)
    model = ScoreModule.load_from_checkpoint(checkpoint)
    parameters = {name for name, _ in model.named_parameters()}
    rounded = {k: v.bfloat16() if k in parameters else v for k, v in content["state_dict"].items()}
    target.parent.mkdir(parents=True, exist_ok=True)
    safetensors().save_file({k: v.contiguous() for k, v in rounded.items()}, target.with_suffix(".safetensors"))
    size = target.with_suffix(".safetensors").stat().st_size
    if size > LARGEST:
        raise SystemExit(f"expected weights of at most {LARGEST} bytes, got {size}: {target}.safetensors")
    settings = {"hyper_parameters": dict(content["hyper_parameters"]), MARK: content[MARK], "training": facts}
    save(target.with_suffix(".json"), settings)


def unpack(source: Path, checkpoint: Path) -> Path:
    """Make a checkpoint of kept weights, in float32, that everything else can read."""
    if not source.with_suffix(".safetensors").is_file():
        raise SystemExit(f"expected weights at {source}.safetensors, found none: run `gpu.py train` first")
    weights = safetensors().load_file(source.with_suffix(".safetensors"))
    settings = json.loads(source.with_suffix(".json").read_text())
    state = {k: v.float() if v.dtype == torch.bfloat16 else v for k, v in weights.items()}
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    kept = {k: settings[k] for k in ("hyper_parameters", MARK)}
    torch.save({"state_dict": state, **kept}, checkpoint)
    return checkpoint


def fit(data: SeriesData, folder: Path, args: argparse.Namespace, epochs: int, **limits: Any) -> ModelCheckpoint:
    """Train for so many epochs with the papers' schedule."""
    seed_everything(0, verbose=False)
    network = Transformer(layers=2, heads=2, width=16, feedforward=32) if args.tiny else Transformer(preset="paper")
    module = ScoreModule(network, learning_rate=1e-3, warmup=0.1, compile=args.compile)
    best = ModelCheckpoint(folder, filename="best", monitor="val_loss", enable_version_counter=False)
    trainer = Trainer(
        max_epochs=epochs,
        callbacks=[EMAWeightAveraging(decay=0.9 if args.tiny else 0.999), best],
        accelerator="cuda" if args.device.startswith("cuda") else "cpu",
        devices=1,
        precision="bf16-mixed" if args.bf16 else "32-true",
        gradient_clip_val=1.0,
        check_val_every_n_epoch=max(1, epochs // 40),
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **limits,
    )
    trainer.fit(module, datamodule=data)
    return best


def train(args: argparse.Namespace) -> None:
    """Train for as many epochs as fit, and keep the weights."""
    data, folder = open_set(args.data, args.tiny), args.runs / args.data
    start = begin(args)
    fit(data, folder / "trial", args, 100, max_steps=2)  # whatever happens once: compilation, files
    since = time.perf_counter()
    fit(data, folder / "trial", args, 100, max_steps=TRIAL_STEPS)
    each = (time.perf_counter() - since) / TRIAL_STEPS
    batches = len(data.train_dataloader())
    epochs = int(SHARE_OF_TIME * 60 * args.minutes / (each * batches))
    epochs = max(1, min(args.epochs, epochs))
    print(f"{args.data}: {1e3 * each:.1f} ms a step, {batches} steps an epoch, {epochs} epochs", flush=True)
    since = time.perf_counter()
    best = fit(data, folder, args, epochs)
    taken = time.perf_counter() - since
    facts = {**start, "data": args.data, "epochs": epochs, "steps": epochs * batches, "seconds": taken}
    facts |= {"complete": True, "val_loss": float(best.best_model_score or math.nan)}
    pack(Path(best.best_model_path), args.checkpoints / args.data, facts)
    print(f"trained in {taken:.0f} s, kept at {args.checkpoints / args.data}.safetensors", flush=True)


def draw(args: argparse.Namespace) -> None:
    """Draw series with one cache, or without, and add what came of it to the data set's JSON."""
    start, output = begin(args), args.output or RESULTS / f"gpu-samples-{args.data}.json"
    checkpoint = unpack(args.checkpoints / args.data, args.runs / f"{args.data}.ckpt")
    module = ScoreModule.load_from_checkpoint(checkpoint, compile=args.compile).to(args.device)
    data, cache = open_set(args.data, args.tiny), args.cache
    sampling = Sampling(num_samples=args.samples, num_steps=args.steps, batch_size=args.batch)
    score = module.score
    if cache != "uncached":
        score = CachedScore(module.score, read_preset(PRESETS / f"{cache}.yaml"), args.steps)
    if not args.tiny:  # a warm-up, with a ledger of its own
        brief = Sampling(num_samples=args.batch, num_steps=4, batch_size=args.batch)
        sample(module.score, module.sde, module.score.codec, brief.units()[0], brief)
    mark = f"{args.steps}-{weights_hash(module)[:8]}{'-bf16' if args.bf16 else ''}"  # other weights, other samples
    kept = args.runs / f"{args.data}-{cache}-{mark}.npz"
    parts, spent = [], 0.0
    if kept.is_file():
        with np.load(kept) as file:
            parts, spent = [torch.from_numpy(file["series"])], float(file["seconds"])
    begun, done = time.perf_counter(), sum(map(len, parts))
    for unit in sampling.units([(done, args.samples)]):
        if time.perf_counter() - begun > 60 * args.minutes:
            break
        since = time.perf_counter()
        with autocast(args.device, args.bf16):
            z = sample(score, module.sde, module.score.codec, unit, sampling)
        parts.append(module.score.codec.decode(z).cpu())
        spent += time.perf_counter() - since
        np.savez(kept, series=torch.cat(parts).numpy(), seconds=spent)
        print(f"{cache}: {sum(map(len, parts))} of {args.samples} series, {spent:.1f} s", flush=True)
    series, evaluator = torch.cat(parts), Evaluator(data)
    row: dict[str, Any] = {"cache": cache, "samples": len(series), "complete": len(series) >= args.samples}
    row |= {"seconds": spent, "samples_per_second": len(series) / spent, **measure(evaluator, series)}
    if isinstance(score, CachedScore) and len(series) > done:
        row |= score.ledger.totals()
    plain = args.runs / f"{args.data}-uncached-{mark}.npz"
    if cache != "uncached" and plain.is_file():
        with np.load(plain) as file:
            reference, base = torch.from_numpy(file["series"]), float(file["seconds"])
        count = min(len(reference), len(series))
        row |= relative_l2(series[:count], reference[:count])
        row["speedup"] = row["samples_per_second"] * base / len(reference)
        before, after = (evaluator.distances(x[:count]) for x in (reference, series))
        changes = evaluator.changes(after, before)
        row |= {name: value for name, value in changes.items() if "change" in name}
    result = json.loads(output.read_text()) if output.is_file() else {**start, "rows": {}, "data": args.data}
    result["rows"][cache] = result["rows"].get(cache, {}) | row  # a run that finds all done counts nothing
    result["sampling"] = {k: v for k, v in asdict(sampling).items() if k != "solver"}
    result["baselines"] = {kind: flat(found) for kind, found in evaluator.baselines(args.samples).items()}
    result["complete"] = all(r["complete"] for r in result["rows"].values())
    save(output, result)
    print(json.dumps({k: v for k, v in row.items() if isinstance(v, float)}), flush=True)


def pot(args: argparse.Namespace) -> None:
    """Time the sliced Wasserstein distance against POT, whose PyTorch form runs on the same device."""
    import ot

    torch.manual_seed(0)
    result, device = begin(args), args.device
    a, b = torch.randn(args.samples, 187, device=device), 1.1 * torch.randn(args.samples, 187, device=device) + 0.1
    x, y, count = a.cpu().numpy(), b.cpu().numpy(), args.directions
    directions, ready = range(count), SortedReference.build(b, count)
    jobs = {
        "ours": lambda: sliced_distances(a, b, directions),
        "ours, sorted reference": lambda: sliced_distances(a, ready, directions),
        "POT, PyTorch": lambda: ot.sliced_wasserstein_distance(a, b, n_projections=count, seed=0),
        "POT, NumPy": lambda: ot.sliced_wasserstein_distance(x, y, n_projections=count, seed=0),
    }
    times = alternate(jobs, args.rounds)
    result |= {"seconds": times, "mean": float(summarize(sliced_distances(a, b, directions))["mean"])}
    result |= {f"over_{name}": ratio(times[f"POT, {name}"], times["ours"]) for name in ("PyTorch", "NumPy")}
    save(args.output or RESULTS / "gpu-metrics.json", result | {"complete": True})
    print({name: f"{result[f'over_{name}']['ratio']:.1f}x" for name in ("PyTorch", "NumPy")}, flush=True)


def main() -> None:
    options = parser(__doc__, "")
    options.set_defaults(output=None)
    options.add_argument("piece", choices=("train", "sample", "pot", "unpack"))
    options.add_argument("--data", choices=("ecg", "nasdaq", "nasa-charge", "nasa-discharge"), default="ecg")
    options.add_argument("--minutes", type=float, default=8.0, help="of one piece")
    options.add_argument("--epochs", type=int, default=200, help="at most, as in the papers")
    options.add_argument("--cache", default="uncached", help="a file of callbacks/, without suffix")
    options.add_argument("--samples", type=int, default=10_000)
    options.add_argument("--steps", type=int, default=1000)
    options.add_argument("--batch", type=int, default=1000)
    options.add_argument("--directions", type=int, default=1000)
    options.add_argument("--bf16", action="store_true", help="mixed precision")
    options.add_argument("--compile", action="store_true", help="compile the network")
    options.add_argument("--tiny", action="store_true", help="seconds on a CPU, to see that it runs")
    options.add_argument("--checkpoints", type=Path, default=CHECKPOINTS)
    options.add_argument("--runs", type=Path, default=Path("runs/gpu"), help="for files that are not kept")
    args = options.parse_args()
    if args.tiny:
        args.samples, args.steps, args.batch, args.directions = 32, 12, 16, 20
        args.epochs = 2
    match args.piece:
        case "train":
            train(args)
        case "sample":
            draw(args)
        case "pot":
            pot(args)
        case "unpack":
            unpack(args.checkpoints / args.data, args.output or args.runs / f"{args.data}.ckpt")


if __name__ == "__main__":
    main()
