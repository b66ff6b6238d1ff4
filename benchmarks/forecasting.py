"""Forecast long series from many origins, beside seasonal naive, ridge regression and the linear model.

    python benchmarks/forecasting.py --sets ett energy --horizons 24 96 --minutes 15

One model of 192 steps is trained on each set's first seven tenths in time, and serves all horizons; what is forecast
lies in the last fifth. What was trained and measured before, with the same settings, is not done again.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from common import begin, parser, save, taken_up, trained

from lightning_freqdiff.data import ArrayData, SeriesData
from lightning_freqdiff.model import Model
from lightning_freqdiff.networks import UNet

FILES = {"ett": ("etth1.npz", 24), "energy": ("energy_timegan.npz", 144)}
"""File of each set, and steps of its season: hours, and tens of minutes, of a day."""


def open_set(name: str, window: int) -> tuple[SeriesData, int]:
    """Open windows of a long series, cut in time, and say what its season is."""
    parts: dict[str, Any] = {"window": window, "val_fraction": 0.1, "test_fraction": 0.2, "stride": 2}
    if name == "synthetic":
        steps = np.arange(600)[:, None]
        noise = 0.1 * np.random.default_rng(0).normal(size=(600, 2))
        return ArrayData.of(np.sin(2 * np.pi * steps / 12 + [0, 1]) + noise, **parts), 12
    if name not in FILES:
        raise SystemExit(f"expected sets of synthetic, {', '.join(FILES)}, got {name}")
    if (home := os.environ.get("FREQDIFF_DATA")) is None:
        raise SystemExit("set FREQDIFF_DATA to the folder of the data sets, or use --sets synthetic")
    file, season = FILES[name]
    return ArrayData(str(Path(home) / file), **parts), season


def main() -> None:
    options = parser(__doc__, "forecasting.json")
    options.add_argument("--sets", nargs="+", default=["ett", "energy"])
    options.add_argument("--horizons", nargs="+", type=int, default=[24, 96])
    options.add_argument("--window", type=int, default=192)
    options.add_argument("--minutes", type=float, default=15, help="of training, for each set")
    options.add_argument("--steps", type=int, help="train for so many steps and not for a time")
    options.add_argument("--origins", type=int, default=32)
    options.add_argument("--samples", type=int, default=64)
    options.add_argument("--num_steps", type=int, default=30)
    options.add_argument("--observe", type=float, default=0.5, help="share of training series that are told values")
    options.add_argument("--width", type=int, default=UNet.width)
    options.add_argument("--checkpoints", type=Path, default=Path("runs/forecasting"))
    args = options.parse_args()
    result = taken_up(args.output, begin(args), "rows")
    limit: Any = {"steps": args.steps} if args.steps else {"max_time": {"minutes": args.minutes}}
    few = {"num_steps": args.num_steps, "solver": "DPMSolverPP", "grid": "edm", "batch_size": 128}
    for name in args.sets:
        data, season = open_set(name, args.window)
        data.setup()
        for horizon in args.horizons:
            if any((row["set"], row["horizon"]) == (name, horizon) for row in result["rows"]):
                continue
            network, told = UNet(width=args.width), args.observe
            module, taken = trained(data, args.checkpoints / name, network, observe=told, **limit)
            way: Any = {**few, "accelerator": args.device.replace("cuda", "gpu")}
            found = Model(module).backtest(horizon, data, args.samples, season=season, origins=args.origins, **way)
            facts = {"season": season, "channels": len(data.channels), "split": found.rolling.split}
            result["rows"].append(
                {"set": name, "horizon": horizon, **facts, "training": taken, "forecasters": found.rows}
            )
            save(args.output, result)
            shown = {k: (round(row["crps"], 4), round(row["mase"], 3)) for k, row in found.rows.items()}
            print(f"{name} {horizon}: CRPS and MASE {shown}", flush=True)
    save(args.output, {**result, "complete": True})


if __name__ == "__main__":
    main()
