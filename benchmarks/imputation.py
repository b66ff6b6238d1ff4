"""Fill gaps by every method: how far are the samples from what was hidden, and what does it cost?

    python benchmarks/imputation.py --sets heartbeats nasdaq ett --minutes 10

What was trained and measured before, with the same settings, is not done again.

Two models are trained on each set, one freely and one that was told values at random places (``observe``). Of rows
that neither has seen, 10, 50 or 90 % of the numbers are hidden, or a block of a fifth of the steps. The score is the
continuous ranked probability score over the hidden numbers, in deviations of each channel, without the bias of few
samples (Gneiting and Raftery 2007); the linear model's conditional law is the baseline, without a network. Beside it
stands the mean squared error of one sample, in squares of each channel's range in training, as in the tables of SSSD
(arXiv 2208.09399) and Diffusion-TS (arXiv 2403.01742), whose hopper set ``hopper.py`` makes: 70 % are hidden there.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import begin, parser, save, taken_up, trained

from lightning_freqdiff.data import ArrayData, SeriesData, SyntheticECG
from lightning_freqdiff.model import Model
from lightning_freqdiff.networks import UNet

METHODS = (
    "linear",
    "GaussianPosterior",
    "Replacement",
    "Reconstruction",
    "ManifoldConstrained",
    "TrustSampling",
    "trained",
)
GAPS = {"10 %": 0.1, "50 %": 0.5, "90 %": 0.9, "block of 20 %": None}
GAPS_OF = {"hopper": {"70 %": 0.7}}
"""Gaps of a set that has its own."""
MANY_STEPS = ("Replacement", "ManifoldConstrained", "TrustSampling")
"""Methods that act after a step, and want many small ones."""
HOPPER = Path("runs/hopper.npz")


def open_set(name: str) -> SeriesData:
    """Open a set with rows held out, windows of a long series cut in time."""
    home = Path(os.environ.get("FREQDIFF_DATA", ""))
    match name:
        case "synthetic":
            return SyntheticECG(num_series=512, length=64, test_fraction=0.2)
        case "heartbeats":
            return ArrayData(str(home / "ecg_mitbih.npz"), test_fraction=0.1)
        case "droughts":
            return ArrayData(str(home / "us_drought_dsci.npz"), test_fraction=0.1)
        case "nasdaq":
            return ArrayData(str(home / "nasdaq_2019_a.npz"), test_fraction=0.1)
        case "ett":
            return ArrayData(str(home / "etth1.npz"), window=96, stride=4, test_fraction=0.2)
        case "hopper":
            return ArrayData(str(HOPPER), test_fraction=0.2)
    raise SystemExit(f"expected sets of synthetic, heartbeats, droughts, nasdaq, ett, hopper, got {name}")


def crps(samples: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the score of samples ``(S, ...)`` against the truth ``(...)``, number by number."""
    count = len(samples)
    ordered = np.sort(samples, axis=0)
    rank = (2 * np.arange(1, count + 1) - count - 1).reshape(-1, *[1] * truth.ndim)
    apart = (rank * ordered).sum(0) / (count * max(1, count - 1))  # half the mean distance of two samples
    return np.abs(samples - truth).mean(0) - apart


def hide(x: np.ndarray, share: float | None, seed: int) -> np.ndarray:
    """Return series with NaN at random numbers, or in a block of a fifth of the steps in each."""
    generator, hidden = np.random.default_rng(seed), x.copy()
    if share is not None:
        hidden[generator.random(x.shape) < share] = np.nan
        return hidden
    size = x.shape[1] // 5
    for row, first in zip(hidden, generator.integers(0, x.shape[1] - size + 1, len(x)), strict=True):
        row[first : first + size] = np.nan
    return hidden


def measure(
    model: Model, method: str, truth: np.ndarray, hidden: np.ndarray, span: np.ndarray, args: Any
) -> dict[str, float]:
    """Fill the gaps, and score it; ``span`` is the range of each channel in training."""
    few = {"num_steps": args.num_steps, "solver": "DPMSolverPP", "grid": "edm"}
    steps = {"num_steps": args.many_steps} if method in MANY_STEPS else few
    settings = {} if method == "linear" else {**steps, "accelerator": args.device.replace("cuda", "gpu")}
    since = time.perf_counter()
    named = None if method == "trained" else method
    settings |= {} if method == "linear" else {"enable_progress_bar": False, "batch_size": args.batch_size}
    drawn = model.impute(hidden, args.samples, named, format="numpy", **settings)
    seconds = time.perf_counter() - since
    gaps, unit = np.isnan(hidden), truth.std((0, 1)).clip(1e-12)
    scores = (crps(drawn.swapaxes(0, 1), truth) / unit)[gaps]
    within = ((truth >= np.quantile(drawn, 0.1, axis=1)) & (truth <= np.quantile(drawn, 0.9, axis=1)))[gaps]
    squares = (np.square(drawn - truth[:, None]) / span**2).mean(1)[gaps]
    return {
        "crps": float(scores.mean()),
        "two_se": float(2 * scores.std() / len(scores) ** 0.5),
        "error_of_mean": float((np.abs(drawn.mean(1) - truth) / unit)[gaps].mean()),
        "within_80": float(within.mean()),
        "mse": float(squares.mean()),
        "mse_two_se": float(2 * squares.std() / len(squares) ** 0.5),
        "mse_of_mean": float((np.square(drawn.mean(1) - truth) / span**2)[gaps].mean()),
        "seconds": seconds,
    }


def main() -> None:
    options = parser(__doc__, "imputation.json")
    options.add_argument("--sets", nargs="+", default=["heartbeats", "nasdaq", "ett"])
    options.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    options.add_argument("--minutes", type=float, default=10, help="of training, for each of two models of a set")
    options.add_argument("--steps", type=int, help="train for so many steps and not for a time")
    options.add_argument("--checkpoints", type=Path, default=Path("runs/imputation"))
    options.add_argument("--rows", type=int, default=32)
    options.add_argument("--samples", type=int, default=20)
    options.add_argument("--num_steps", type=int, default=50)
    options.add_argument("--many_steps", type=int, default=200)
    options.add_argument("--batch_size", type=int, default=128)
    options.add_argument("--width", type=int, default=UNet.width)
    args = options.parse_args()
    result = taken_up(args.output, begin(args), "rows")
    done = {(row["set"], row["gap"], row["method"]) for row in result["rows"]}
    limit: Any = {"steps": args.steps} if args.steps else {"max_time": {"minutes": args.minutes}}
    for name in args.sets:
        data = open_set(name)
        data.setup()
        truth = data.reference_series(args.rows, "test").numpy()
        seen, gaps = data.reference_series().numpy(), GAPS_OF.get(name, GAPS)
        span = (seen.max((0, 1)) - seen.min((0, 1))).clip(1e-12)
        for told in (0.0, 0.8):
            methods = [m for m in args.methods if (m == "trained") == (told > 0)]
            if all((name, gap, method) in done for gap in gaps for method in methods):
                continue
            folder = args.checkpoints / f"{name}-{told:g}"
            module, taken = trained(data, folder, UNet(width=args.width), observe=told, **limit)
            for gap, share in gaps.items():
                hidden = hide(truth, share, seed=0)
                for method in methods:
                    if (name, gap, method) in done:
                        continue
                    try:
                        found = measure(Model(module), method, truth, hidden, span, args)
                    except ValueError as error:  # a guidance that blows up is a result
                        found = {"crps": None, "failed": str(error)}
                    result["rows"].append({"set": name, "gap": gap, "method": method, **found, "training": taken})
                    save(args.output, result)
                    print(f"{name:12} {gap:14} {method:20} CRPS {found['crps']}", flush=True)
    save(args.output, {**result, "complete": True})


if __name__ == "__main__":
    main()
