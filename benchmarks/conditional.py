"""Train a model with what is known of its series, and measure what it draws when it is told.

    python benchmarks/conditional.py --part labels --minutes 10

``labels``: heartbeats of MIT-BIH in their five classes. For every scale of guidance (1: none), what a classifier that
is trained on generated beats knows of real ones, beside one that is trained on as many real beats; and of every class
the sliced Wasserstein distance to its training beats, beside that of as many beats which were held out.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import autocast, begin, parser, save, taken_up, trained
from torch import Tensor

from lightning_freqdiff.data import ECG, LoadedData, SeriesData, SyntheticECG
from lightning_freqdiff.evaluation.labels import Labels, classify
from lightning_freqdiff.metrics import sliced_wasserstein
from lightning_freqdiff.networks import UNet
from lightning_freqdiff.sampling import ClassifierFree, Listed, Sampling
from lightning_freqdiff.sampling.solvers import Heun

HEUN_STEPS = 30
"""Steps of Heun's method on EDM's grid: 59 network calls."""

SETTINGS: tuple[tuple[float, tuple[float, float]], ...] = (
    (1.0, (0.0, 1.0)),
    (2.0, (0.0, 1.0)),
    (3.0, (0.0, 1.0)),
    (4.0, (0.0, 1.0)),
    (2.0, (0.1, 0.5)),
)
"""Scales of guidance and times between which it acts."""


def open_heartbeats(name: str) -> LoadedData:
    """Open the heartbeats with their labels; ``synthetic`` needs no file."""
    if name == "synthetic":
        return SyntheticECG(num_series=2048, length=64, conditional=True, test_fraction=0.3)
    home = os.environ.get("FREQDIFF_DATA")
    if home is None:
        raise SystemExit("set FREQDIFF_DATA to the folder of the data sets, or use --data synthetic")
    return ECG(path=home, conditional=True, test_fraction=0.1)


def draw(module: Any, labels: Tensor, guidance: ClassifierFree, seed: int, batch: int = 100) -> Tensor:
    """Draw a series for each label."""
    known = Listed({"label": labels.tolist()})
    settings: dict[str, Any] = {"num_steps": HEUN_STEPS, "solver": Heun(), "grid": "edm", "seed": seed}
    sampling = Sampling(len(labels), batch_size=batch, condition=known, guidance=guidance, **settings)
    return torch.cat([module.draw(unit, sampling).cpu() for unit in sampling.units()])


def by_class(made: Tensor, classes: Tensor, data: SeriesData, known: dict[str, Tensor], most: int) -> dict[str, Any]:
    """Return the distance of every class's samples to its training series, beside that of held-out ones."""
    train_rows, test_rows = data.reference_series(), data.reference_series(part="test")
    found = {}
    for number, name in enumerate(data.vocabulary.classes):
        real, fresh = train_rows[known["train"] == number], test_rows[known["test"] == number]
        ours = made[classes == number]
        count = min(len(ours), len(fresh), most)
        if min(count, len(real)) < 2:
            continue
        distance, floor = (float(sliced_wasserstein(x[:count], real)["mean"]) for x in (ours, fresh))
        found[name] = {
            "count": count,
            "training": len(real),
            "sw": distance,
            "floor": floor,
            "over": distance / floor,
        }
    return found


def labels_part(args: argparse.Namespace, output: Path, result: dict[str, Any]) -> dict[str, Any]:
    """Train with labels, and measure at every guidance that was not measured before."""
    data = open_heartbeats(args.data)
    data.setup()
    limit: Any = {"steps": args.steps} if args.steps else {"max_time": {"minutes": args.minutes}}
    network = UNet(preset=args.preset)
    module, taken = trained(data, args.checkpoints / args.data, network, precision=args.precision, **limit)
    module.to(args.device)
    words = data.vocabulary
    known = {part: words.number(data.labels(part)) for part in ("train", "test")}
    train_rows, test_rows = data.reference_series(), data.reference_series(part="test")
    # Of each class as many beats as another, up to those that are there: what a classifier is trained on.
    order = np.random.default_rng(0).permutation(len(train_rows))
    told = known["train"][order[: args.samples]]
    even = torch.arange(len(words.classes)).repeat_interleave(args.per_class)
    result |= {**taken, "train": len(train_rows), "test": len(test_rows)}
    rows = result["runs"]
    for scale, interval in SETTINGS:
        if any((row["scale"], tuple(row["interval"])) == (scale, interval) for row in rows):
            continue
        since = time.perf_counter()
        with autocast(args.device, "bf16" in args.precision):
            made = draw(module, told, ClassifierFree(scale, interval), args.seed)
            each = draw(module, even, ClassifierFree(scale, interval), args.seed + 1)
        seconds = time.perf_counter() - since
        sets = [made, train_rows, test_rows]
        score = classify(sets, Labels(words.classes, told, known["train"], known["test"]), args.samples, args.repeats)
        row = {"scale": scale, "interval": list(interval), "seconds": seconds, "classifier": score}
        rows.append(row | {"classes": by_class(each, even, data, known, args.per_class)})
        shown = {k: round(score[f"balanced_{k}"], 3) for k in ("synthetic", "real", "chance")}
        over = {name: round(one["over"], 2) for name, one in rows[-1]["classes"].items()}
        save(output, result)
        print(f"guidance {scale:g} in {interval}: {shown}, distance over floor {over}", flush=True)
    return result


PARTS = {"labels": labels_part}


def main() -> None:
    options = parser(__doc__, "conditional.json")
    options.add_argument("--part", choices=[*PARTS], default="labels")
    options.add_argument("--data", choices=("ecg", "synthetic"), default="ecg")
    options.add_argument("--minutes", type=float, default=10, help="of training")
    options.add_argument("--steps", type=int, help="train for so many steps and not for a time")
    options.add_argument("--preset", choices=("small", "base", "large"), default="small", help="of the U-Net")
    options.add_argument("--samples", type=int, default=2000, help="for the classifiers, with the labels of the data")
    options.add_argument("--per_class", type=int, default=300, help="samples of each class for its distance")
    options.add_argument("--repeats", type=int, default=1, help="of the classifiers")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--precision", default="32-true")
    options.add_argument("--checkpoints", type=Path, default=Path("runs/conditional"))
    args = options.parse_args()
    output = args.output.with_name(f"{args.output.stem}-{args.part}.json")
    result = PARTS[args.part](args, output, taken_up(output, begin(args), "runs"))
    save(output, {**result, "complete": True})
    print(f"written: {output}", flush=True)


if __name__ == "__main__":
    main()
