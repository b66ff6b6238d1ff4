"""What the benchmark scripts share: options, timing in turn, a small checkpoint, and results that survive a break."""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from statistics import median
from typing import Any

import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint, Timer
from torch import nn

from lightning_freqdiff.callbacks import Refit
from lightning_freqdiff.data import ArrayData, SeriesData, SyntheticECG
from lightning_freqdiff.evaluation.calibrate import calibrate
from lightning_freqdiff.evaluation.evaluator import Evaluator
from lightning_freqdiff.evaluation.scores import Measurement
from lightning_freqdiff.files import replace_json
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.networks import Architecture, Transformer
from lightning_freqdiff.reporting.hardware import describe_hardware
from lightning_freqdiff.sampling.loop import Sampling

RESULTS = Path(__file__).parent / "results"
SIZES = ("layers", "heads", "width", "feedforward")
PAPER = {"layers": 10, "heads": 12, "width": 72, "feedforward": 2048}


def parser(text: str | None, output: str) -> argparse.ArgumentParser:
    """Return a parser with the options that every script has."""
    result = argparse.ArgumentParser(description=(text or "").split("\n")[0])
    result.add_argument("--threads", type=int, default=2)
    result.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    result.add_argument("--rounds", type=int, default=3)
    result.add_argument("--output", type=Path, default=RESULTS / output)
    return result


def begin(args: argparse.Namespace) -> dict[str, Any]:
    """Set up threads and seed, and return what every result begins with: the machine, and the settings."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    hidden = ("output", "ckpt_path", "threads", "device")  # paths of this machine say nothing to others
    settings = {k: v.name if isinstance(v, Path) else v for k, v in vars(args).items() if k not in hidden}
    return {"machine": describe_hardware(args.device), "settings": settings, "complete": False}


def save(path: Path, result: dict[str, Any]) -> None:
    """Write a result in one move, so that a run that is broken off leaves what it had."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_json(path, result)


def seconds(job: Callable[[], Any]) -> float:
    """Time a job, to the end of what it left running on a GPU."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    since = time.perf_counter()
    job()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - since


def alternate(jobs: dict[str, Callable[[], Any]], rounds: int, warm: int = 1) -> dict[str, list[float]]:
    """Time jobs in turn, so that what else the machine does falls on all of them; the first turns are not counted."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for i in range(rounds + warm):
        for name, job in jobs.items():
            taken = seconds(job)
            if i >= warm:
                times[name].append(taken)
    return times


def ratio(base: list[float], ours: list[float]) -> dict[str, float]:
    """Return how many times faster ours is: the ratio of medians, and the range of ratios within a round."""
    each = [b / o for b, o in zip(base, ours, strict=True)]
    return {"ratio": median(base) / median(ours), "low": min(each), "high": max(each)}


def autocast(device: str, bf16: bool) -> AbstractContextManager[Any]:
    """Return PyTorch's mixed precision, where it is asked for."""
    return torch.autocast(torch.device(device).type, torch.bfloat16) if bf16 else nullcontext()


def sizes_of(architecture: Any) -> dict[str, int]:
    """Return layers, heads, width and feed-forward width of a transformer."""
    if not isinstance(architecture, Transformer):
        raise SystemExit(
            f"expected a checkpoint of a transformer, got {type(architecture).__name__}: set --ckpt_path"
        )
    return {name: architecture.setting(name) for name in SIZES}


def fill_zeros(network: nn.Module) -> nn.Module:
    """Give weights that start at zero small random values: zeros could make the work look easier than it is."""
    for parameter in network.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    return network


def open_data(name: str) -> SeriesData:
    """Open a file of ``FREQDIFF_DATA`` by its name, or ``synthetic``."""
    if name == "synthetic":
        return SyntheticECG()
    folder = os.environ.get("FREQDIFF_DATA")
    if folder is None:
        raise SystemExit("set FREQDIFF_DATA to the folder of the data sets, or use --data synthetic")
    return ArrayData(str(Path(folder) / f"{name}.npz"))


def train(
    data: SeriesData,
    folder: Path,
    network: Architecture,
    steps: int = -1,
    max_time: dict[str, float] | None = None,
    precision: Any = "32-true",
    seed: int = 0,
    **settings: Any,
) -> tuple[ScoreModule, dict[str, float]]:
    """Train as ``fit`` does, for some steps or some time; return the best checkpoint, steps and seconds.

    Args:
        data: Data set.
        folder: Where checkpoints go.
        network: Backbone.
        steps: Training steps.
        max_time: Time to train, as ``timedelta`` takes it; the learning rate falls with the clock.
        precision: Lightning's.
        seed: Weights, order and noise.
        **settings: Of the module.
    """
    seed_everything(seed, verbose=False)
    module = ScoreModule(network, **settings)
    checkpoint = ModelCheckpoint(folder, filename="best", monitor="val_loss", enable_version_counter=False)
    timer = [Timer(max_time, interval="step", verbose=False)] if max_time else []  # pyright: ignore
    trainer = Trainer(
        max_steps=steps,
        max_epochs=-1,
        callbacks=[EMAWeightAveraging(decay=0.995), checkpoint, Refit(), *timer],
        gradient_clip_val=1.0,
        precision=precision,
        val_check_interval=100,
        check_val_every_n_epoch=None,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    since = time.perf_counter()
    trainer.fit(module, datamodule=data)
    taken = {"steps": trainer.global_step, "training_seconds": time.perf_counter() - since}
    best = ScoreModule.load_from_checkpoint(checkpoint.best_model_path)
    return best, {**taken, "val_loss": float(checkpoint.best_model_score or torch.nan)}


def trained(
    data: SeriesData, folder: Path, network: Architecture, **settings: Any
) -> tuple[ScoreModule, dict[str, float]]:
    """Train as :func:`train` does; or take what was trained into the same folder before, whatever the settings."""
    note = folder / "training.json"
    if note.is_file():
        return ScoreModule.load_from_checkpoint(folder / "best.ckpt"), json.loads(note.read_text())
    module, taken = train(data, folder, network, **settings)
    save(note, taken)
    return module, taken


def taken_up(path: Path, result: dict[str, Any], rows: str) -> dict[str, Any]:
    """Return a result with the rows that an earlier run of the same settings left, to go on from."""
    before = json.loads(path.read_text()) if path.is_file() else {}
    same = before.get("settings") == json.loads(json.dumps(result["settings"]))
    return {**result, rows: before.get(rows, []) if same else []}


def flat(measurement: Measurement) -> dict[str, float]:
    """Lay a measurement out for JSON: how many series, and for every metric its mean and twice its error."""
    result: dict[str, float] = {"count": measurement.count}
    for name, values in measurement.values.items():
        result |= {name: values["mean"], f"{name}_two_se": values["two_se"]}
    return result


def measure(evaluator: Evaluator, series: torch.Tensor) -> dict[str, Any]:
    """Measure all samples, and as many as the floor is taken at: only these compare with it."""
    measured = evaluator.measure(series)
    assert measured.at_floor_count is not None
    fewer, floor = flat(measured.at_floor_count), evaluator.baselines(len(series))["floor"]
    over = fewer["sw_time"] / floor.values["sw_time"]["mean"]
    return {**flat(measured.samples), "at_floor_count": fewer, "floor": flat(floor), "over_floor": over}


def small_checkpoint(steps: int, folder: Path, samples: int = 16, sampling_steps: int = 1000) -> ScoreModule:
    """Train a small model on the embedded heartbeats, and calibrate it for the caches."""
    print(f"no --ckpt_path: training a small model on embedded heartbeats, {steps} steps", flush=True)
    module, taken = train(SyntheticECG(), folder, Transformer(preset="plain"), steps)
    sampling = Sampling(num_samples=samples, num_steps=sampling_steps, batch_size=samples, seed=1)
    module.score.calibration = calibrate(module, sampling)[0]
    print(f"trained in {taken['training_seconds']:.0f} s", flush=True)
    return module
