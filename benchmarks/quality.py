"""Train on a data set for a stated budget and measure the samples against the training set.

    python benchmarks/quality.py --data ecg_mitbih nasa_discharge --output benchmarks/results/quality.json

For each data set (a file of ``FREQDIFF_DATA``, or ``synthetic``) and parametrisation: the training time, the
distances of 256 samples, and beside them the floor (as many real series that were not trained on, or all where there
are fewer, and so many of the samples), half of the training set against the other half, and the mean series alone.
Every figure has its ``count`` with it.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint

from lightning_freqdiff.data import ArrayData, SeriesData, SyntheticECG
from lightning_freqdiff.evaluation.evaluator import Evaluator
from lightning_freqdiff.evaluation.scores import Measurement
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.networks import Architecture, Transformer, UNet
from lightning_freqdiff.reporting import plots
from lightning_freqdiff.reporting.hardware import describe_hardware
from lightning_freqdiff.sampling.loop import Sampling, WorkUnit

SAMPLES = 256
NETWORKS: dict[str, Any] = {"Transformer": Transformer, "UNet": UNet}


def open_data(name: str) -> SeriesData:
    if name == "synthetic":
        return SyntheticECG()
    folder = os.environ.get("FREQDIFF_DATA")
    if folder is None:
        raise SystemExit("set FREQDIFF_DATA to the folder of the data sets, or use --data synthetic")
    return ArrayData(str(Path(folder) / f"{name}.npz"))


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
    return {**flat(measured.samples), "at_floor_count": fewer, "over_floor": over}


def train(
    data: SeriesData, parametrization: str, steps: int, folder: Path, network: Architecture
) -> tuple[ScoreModule, float]:
    weighting = "unit" if parametrization == "wiener" else "eps"
    seed_everything(0, verbose=False)
    module = ScoreModule(network, parametrization=parametrization, weighting=weighting)  # type: ignore
    checkpoint = ModelCheckpoint(folder, filename="best", monitor="val_loss", enable_version_counter=False)
    epochs = max(1, round(steps / len(data.train_dataloader())))
    trainer = Trainer(
        max_epochs=epochs,
        callbacks=[EMAWeightAveraging(decay=0.999), checkpoint],
        gradient_clip_val=1.0,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    since = time.perf_counter()
    trainer.fit(module, datamodule=data)
    seconds = time.perf_counter() - since
    return ScoreModule.load_from_checkpoint(checkpoint.best_model_path), seconds


def draw(module: ScoreModule, steps: int, seed: int = 0) -> torch.Tensor:
    module.sampling = Sampling(num_samples=SAMPLES, num_steps=steps)
    return module.predict_step(WorkUnit(seed, 0, SAMPLES), 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--data", nargs="+", default=["synthetic"])
    parser.add_argument("--parametrizations", nargs="+", default=["wiener", "eps", "x0", "score"])
    parser.add_argument(
        "--steps", type=int, default=6000, help="training steps of 64 series, rounded to whole epochs"
    )
    parser.add_argument("--sampling_steps", type=int, default=1000)
    parser.add_argument("--network", choices=sorted(NETWORKS), default="UNet")
    parser.add_argument("--preset", default="small")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--checkpoints", type=Path, default=Path("runs/quality"))
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    kept = ("steps", "sampling_steps", "network", "preset", "threads")
    settings = {name: getattr(args, name) for name in kept}
    result: dict[str, Any] = {"machine": describe_hardware(), "settings": settings, "data": {}}
    for name in args.data:
        data = open_data(name)
        evaluator = Evaluator(data)
        baselines = {kind: flat(found) for kind, found in evaluator.baselines(SAMPLES).items()}
        entry: dict[str, Any] = {"shape": [data.num_train, *data.shape], **baselines, "runs": {}}
        result["data"][name] = entry
        for parametrization in args.parametrizations:
            folder = args.checkpoints / f"{name}-{parametrization}-{args.steps}"
            module, seconds = train(
                data, parametrization, args.steps, folder, NETWORKS[args.network](preset=args.preset)
            )
            since = time.perf_counter()
            generated = draw(module, args.sampling_steps)
            run = {"training_seconds": seconds, "sampling_seconds": time.perf_counter() - since}
            run |= measure(evaluator, generated)
            entry["runs"][parametrization] = run
            shown = {k: round(v, 4) for k, v in run.items() if not isinstance(v, dict)}
            print(name, parametrization, json.dumps(shown), flush=True)
            figure = plots.sample_gallery(generated[:6].numpy(), data.train_series()[:6].numpy(), data.channels)
            args.output.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(args.output.with_name(f"{args.output.stem}-{name}-{parametrization}.png"), dpi=100)
            np.save(folder / "samples.npy", generated.numpy())
        print(name, json.dumps({k: entry[k] for k in ("floor", "self", "dummy")}), flush=True)
        args.output.write_text(json.dumps(result, indent=2, default=str) + "\n")


if __name__ == "__main__":
    main()
