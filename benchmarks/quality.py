"""Train networks on data sets for some minutes each, and measure their samples as the field does.

    python benchmarks/quality.py --sets ecg nasa-charge --networks unet transformer --minutes 10 --seeds 0

A set is a config of that name, with its splits; ``droughts`` is the file ``us_drought_dsci`` of ``FREQDIFF_DATA``.
Each run adds a row to the output, in place of an older one of the same set, network, colour, domain, form and seed,
and draws a plate. All choices (the checkpoint, the time it stops) are made on the validation part; the figures are of
samples against the training set, and the floor is the same number of test rows against it. Windows of 24 steps are
measured by the protocol that the field publishes, against the whole set.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from common import RESULTS, autocast, begin, save, train
from jsonargparse import ArgumentParser
from judged import WINDOW, at_large, distances, flat_tails, scores
from omegaconf import OmegaConf
from torch import Tensor

from lightning_freqdiff.data import ArrayData, SeriesData
from lightning_freqdiff.diffusion.losses import LOGNORMAL, Weighting
from lightning_freqdiff.diffusion.score import Covariance, Parametrization
from lightning_freqdiff.files import replace_json
from lightning_freqdiff.logarithm import Logarithms
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.networks import Transformer, UNet
from lightning_freqdiff.reporting.plate import plate
from lightning_freqdiff.sampling import Sampling, WorkUnit
from lightning_freqdiff.sampling.solvers import Heun

CONFIGS = Path(__file__).parent.parent / "configs"
SETS = (
    "ecg",
    "nasa-charge",
    "nasa-discharge",
    "nasdaq",
    "droughts",
    "stocks",
    "energy",
    "ett",
    "sines",
)
NETWORKS: dict[str, Any] = {
    "unet": UNet(),
    "unet-base": UNet(preset="base"),
    "unet-large": UNet(preset="large"),
    "transformer": Transformer(),
    "transformer-time": Transformer(preset="base", axis="time", layers=4),
    "transformer-groups": Transformer(preset="base", group=4, layers=4),
    "hybrid": Transformer(preset="base", width=96, layers=4, mix=7),
    "plain": Transformer(preset="plain"),
    "paper": Transformer(preset="paper"),
}
RATES = {
    "transformer-time": 1e-3,
    "hybrid": 2e-3,
    "transformer-groups": 1e-3,
    "paper": 1e-3,
    "transformer": 2e-3,
    "unet-large": 1e-3,
}
"""Peak learning rates that are not the default; wide transformers want less."""

WINDOWED = {"stocks": "stock_timegan.npz", "energy": "energy_timegan.npz", "ett": "etth1.npz"}
WINDOWS_DRAWN, SERIES_DRAWN = 3000, 1000
"""Samples of windows of 24 steps, as published, and of all others."""

LARGE_SEED = 1000
"""How far the seed of so many samples is from that of the others."""

HEUN_STEPS = 30
"""Steps of Heun's method on EDM's grid: 59 network calls."""


def open_set(name: str) -> SeriesData:
    """Open a set as its config does; windows as the field has them: in [0, 1], shuffled before any are held out."""
    home = Path(os.environ.get("FREQDIFF_DATA", ""))
    if name == "droughts":
        data: SeriesData = ArrayData(str(home / "us_drought_dsci.npz"))
    elif name in WINDOWED:
        long = np.load(home / WINDOWED[name])["series"].astype(np.float32)
        low, high = long.min(0), long.max(0)
        long = (long - low) / np.where(high > low, high - low, 1)
        windows = np.lib.stride_tricks.sliding_window_view(long, WINDOW, axis=0).transpose(0, 2, 1)
        data = ArrayData.of(windows.copy(), val_fraction=0.05, test_fraction=0.05)
    else:
        settings: Any = OmegaConf.to_container(OmegaConf.load(CONFIGS / f"{name}.yaml").data, resolve=True)
        if name == "sines":
            settings["init_args"] |= {"variant": "code"}  # which published scores rest on
        reader = ArgumentParser(exit_on_error=False)
        reader.add_subclass_arguments(SeriesData, "data")
        data = reader.instantiate(reader.parse_object({"data": settings}))["data"]
    data.prepare_data()
    data.setup("fit")
    data.setup("test")
    return data


def draw(module: ScoreModule, count: int, seed: int, batch: int = 100) -> Tensor:
    sampling = Sampling(num_samples=count, num_steps=HEUN_STEPS, solver=Heun(), grid="edm", seed=seed)
    units = (WorkUnit(seed, first, min(batch, count - first)) for first in range(0, count, batch))
    return torch.cat([module.draw(unit, sampling).cpu() for unit in units])


def run(args: argparse.Namespace, name: str, network: str, seed: int) -> dict[str, Any]:
    data = open_set(name)
    count = args.samples or (WINDOWS_DRAWN if data.shape[0] == WINDOW else SERIES_DRAWN)
    folder = args.checkpoints / f"{name}-{network}-{args.domain}-{args.colour}-{seed}"
    rate = RATES.get(network, 3e-3) if args.learning_rate is None else args.learning_rate
    if args.again and (folder / "training.json").is_file():
        module, taken = (
            ScoreModule.load_from_checkpoint(folder / "best.ckpt"),
            json.loads((folder / "training.json").read_text()),
        )
    else:
        module, taken = train(
            data,
            folder,
            NETWORKS[network],
            steps=args.steps or -1,
            max_time=None if args.steps else {"minutes": args.minutes},
            precision=args.precision,
            seed=seed,
            learning_rate=rate,
            domain=args.domain,
            colour=args.colour,
            weighting=args.weighting,
            covariance=args.covariance,
            parametrization=args.parametrization,
            logarithm=args.logarithm,
        )
        replace_json(folder / "training.json", taken)

    def drawn(count: int, seed: int) -> Tensor:
        with autocast(args.device, args.precision == "bf16-mixed"):
            return draw(module, count, seed)

    module.to(args.device)
    since = time.perf_counter()
    generated = drawn(args.draws * count, seed)
    row: dict[str, Any] = {
        "set": name,
        "network": network,
        "domain": args.domain,
        "colour": args.colour,
        "seed": seed,
    }
    row |= {
        "minutes": round(taken["training_seconds"] / 60, 1) if args.steps else args.minutes,
        "threads": args.threads,
        "precision": args.precision,
        "learning_rate": rate,
        "times": list(LOGNORMAL),
        "covariance": args.covariance,
        "parametrization": module.parametrization,
        "logarithm": bool(module.score.codec.logarithm.channels),
    }
    row |= {"shape": [data.num_train, *data.shape], "parameters": sum(p.numel() for p in module.parameters())}
    row |= {**taken, "sampling_seconds": time.perf_counter() - since, "samples": count}
    row |= distances(data, generated, count, args.directions, seed)
    if name == "ecg":
        row["flat_tails"], row["flat_tails_real"] = flat_tails(generated), flat_tails(data.reference_series())
    generated = generated[:count]
    if args.large:
        row["large"] = at_large(data, drawn(args.large, seed + LARGE_SEED), args.directions, seed)
    if args.scores:
        row |= scores(generated, data, args.repetitions)
    np.save(folder / "samples.npy", generated.numpy())
    if seed == 0 and args.plates:
        title = f"{name}: {network}, {taken['training_seconds'] / 60:.0f} minutes, {taken['steps']} steps"
        figure = plate(generated.numpy(), data.reference_series()[:count].numpy(), data.channels, title)
        figure.savefig(args.output.parent / f"plate-{name}-{network}.png", dpi=80)
    return row


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    options.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    options.add_argument("--networks", nargs="+", choices=sorted(NETWORKS), default=["unet"])
    options.add_argument("--seeds", nargs="+", type=int, default=[0])
    options.add_argument("--minutes", type=float, default=10, help="of training, for each set, network and seed")
    options.add_argument("--steps", type=int, help="train for so many steps and not for a time")
    options.add_argument("--samples", type=int, help=f"{SERIES_DRAWN} if not given; of windows, {WINDOWS_DRAWN}")
    options.add_argument("--draws", type=int, default=4, help="sets of so many samples; distances are their mean")
    options.add_argument("--large", type=int, default=0, help="also measure so many, against half of all real rows")
    options.add_argument("--directions", type=int, default=2000, help="of the sliced Wasserstein distance")
    options.add_argument("--domain", choices=("frequency", "time"), default="frequency")
    options.add_argument("--colour", type=float, default=0.0, help="of the noise; 0: white, 1: equal")
    options.add_argument("--covariance", choices=get_args(Covariance), default="joint")
    options.add_argument("--parametrization", choices=get_args(Parametrization))
    options.add_argument("--logarithm", choices=get_args(Logarithms), default="wide", help="of which channels")
    options.add_argument("--weighting", choices=get_args(Weighting))
    options.add_argument("--learning_rate", type=float)
    options.add_argument("--precision", default="bf16-mixed")
    options.add_argument("--scores", type=int, choices=(0, 1), default=1, help="0: leave out what trains networks")
    options.add_argument("--repetitions", type=int, default=1, help="of the scores that train networks")
    options.add_argument("--again", type=int, choices=(0, 1), default=0, help="1: measure what was trained before")
    options.add_argument("--plates", type=int, choices=(0, 1), default=1)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options.add_argument("--checkpoints", type=Path, default=Path("runs/quality"))
    options.add_argument("--output", type=Path, default=RESULTS / "quality.json")
    args = options.parse_args()
    machine = begin(args)["machine"]
    for name in args.sets:
        for network in args.networks:
            for seed in args.seeds:
                row = {**run(args, name, network, seed), "machine": machine}
                add(args.output, row)
                shown = ("steps", "val_loss", "sw_time", "over_floor", "discriminative", "flat_tails")
                print(name, network, seed, {k: round(row[k], 4) for k in shown if k in row}, flush=True)


def add(path: Path, row: dict[str, Any]) -> None:
    """Put a row into the file of all rows, in place of an older one of the same run."""
    key = ("set", "network", "domain", "colour", "seed", "minutes", "samples", "parametrization", "logarithm")
    rows = json.loads(path.read_text())["runs"] if path.is_file() else []
    rows = [{"parametrization": "wiener", "logarithm": False, **old} for old in rows]  # all there was
    rows = [old for old in rows if any(old[k] != row[k] for k in key)]
    save(path, {"runs": sorted([*rows, row], key=lambda r: tuple(str(r[k]) for k in key))})


if __name__ == "__main__":
    main()
