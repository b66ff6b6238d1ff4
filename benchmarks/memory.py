"""Measure the memory of a training run whose series are in a file on disk, for files of several sizes.

    python benchmarks/memory.py                                        # 20,000 and 200,000 series, for a laptop
    python benchmarks/memory.py --series 100000 1000000 10000000       # the last file takes 3.7 GB

Each size is a process of its own. What counts is the memory that belongs to the process (anonymous pages): pages
of the file that happen to be in memory are the system's, which takes them back when it needs them. Linux only.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from lightning_freqdiff.reporting.hardware import describe_hardware

RESULTS = Path(__file__).parent / "results"
LENGTH = 187
BLOCK = 50_000


def write(path: Path, count: int) -> None:
    """Write random walks, `(count, LENGTH, 1)` in half precision, a block at a time."""
    rng = np.random.default_rng(0)
    block = rng.standard_normal((min(BLOCK, count), LENGTH, 1)).cumsum(axis=1)
    file = np.lib.format.open_memmap(path, "w+", np.float16, (count, LENGTH, 1))
    for first in range(0, count, len(block)):
        piece = block[: count - first] * rng.uniform(0.5, 2)
        file[first : first + len(piece)] = piece
    file.flush()


class Watch(threading.Thread):
    """Reads every tenth of a second how much memory this process has, in MiB: its own, and pages of files."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.since = time.perf_counter()
        self.curve: list[tuple[float, float, float]] = []
        self.marks: dict[str, float] = {}
        self.over = threading.Event()

    def mark(self, name: str) -> None:
        """Note that something begins."""
        self.marks[name] = time.perf_counter() - self.since

    def run(self) -> None:
        """Read until told to stop."""
        while not self.over.wait(0.1):
            lines = Path("/proc/self/status").read_text().splitlines()
            size = {line.split(":")[0]: float(line.split()[1]) / 1024 for line in lines if line.startswith("Rss")}
            self.curve.append((time.perf_counter() - self.since, size["RssAnon"], size["RssFile"]))


def train(path: str, steps: int, batch_size: int) -> dict[str, Any]:
    """Train on a file, and return the curve of the memory with what happened when."""
    import logging
    import warnings

    from lightning.pytorch import Trainer, seed_everything
    from lightning.pytorch.callbacks import LambdaCallback

    from lightning_freqdiff.data import ArrayData
    from lightning_freqdiff.module import ScoreModule

    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    seed_everything(0, verbose=False)
    watch = Watch()
    watch.start()
    time.sleep(0.5)
    watch.mark("checks and split")
    data = ArrayData(path, batch_size=batch_size, in_memory=False)
    data.setup()
    watch.mark("statistics")
    trainer = Trainer(
        max_steps=steps,
        limit_val_batches=10,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[LambdaCallback(on_train_start=lambda *_: watch.mark("training"))],
    )
    trainer.fit(ScoreModule(), datamodule=data)
    watch.mark("end")
    watch.over.set()
    watch.join()
    return {"marks": watch.marks, "curve": [[round(v, 2) for v in point] for point in watch.curve]}


def summarize(run: dict[str, Any]) -> dict[str, float]:
    """Return growths of the process's own memory, in MiB, and seconds."""
    marks, curve = run["marks"], np.array(run["curve"])
    training = curve[(curve[:, 0] > marks["training"]) & (curve[:, 0] < marks["end"])]
    before = curve[curve[:, 0] < marks["checks and split"], 1].max()
    half = len(training) // 2
    return {
        "before": round(float(before), 1),
        "peak_growth": round(float(curve[:, 1].max() - before), 1),
        "training_growth": round(float(training[:, 1].max() - before), 1),
        "second_half_over_first": round(float(training[half:, 1].max() - training[:half, 1].max()), 1),
        "file_pages": round(float(curve[:, 2].max()), 1),
        "seconds_checks": round(marks["statistics"] - marks["checks and split"], 1),
        "seconds_statistics": round(marks["training"] - marks["statistics"], 1),
        "seconds_training": round(marks["end"] - marks["training"], 1),
    }


def draw(runs: dict[int, dict[str, Any]], path: Path) -> None:
    """Draw own memory and pages of files over time, a column for each size."""
    figure = Figure(figsize=(3.6 * len(runs), 3), layout="constrained")
    axes = figure.subplots(1, len(runs), sharey=True, squeeze=False)[0]
    for axis, (count, run) in zip(axes, runs.items(), strict=True):
        curve = np.array(run["curve"])
        axis.plot(curve[:, 0], curve[:, 1], color="#c2410c", label="the process's own")
        axis.plot(curve[:, 0], curve[:, 2], color="#94a3b8", lw=1, label="pages of files")
        axis.axvline(run["marks"]["training"], color="#334155", lw=0.8, ls=":", label="training begins")
        axis.set_title(f"{count:,} series, {count * LENGTH * 2 / 2**20:,.0f} MiB", fontsize=9)
        axis.set_xlabel("seconds", fontsize=9)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("memory, MiB", fontsize=9)
    axes[0].set_ylim(bottom=0)
    axes[0].legend(fontsize=7, frameon=False)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, nargs="+", default=[20_000, 200_000])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--folder", help="where the files are made; a temporary folder if not given")
    parser.add_argument("--output", type=Path, default=RESULTS / "memory.json")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        print(json.dumps(train(args.worker, args.steps, args.batch_size)))
        return
    runs = {}
    for count in args.series:
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            needed, free = count * LENGTH * 2, shutil.disk_usage(folder).free
            if needed > 0.8 * free:
                sys.exit(
                    f"expected {needed / 1e9:.1f} GB and some to spare in {folder}, got {free / 1e9:.1f}: --folder"
                )
            file = Path(folder) / "series.npy"
            write(file, count)
            settings = ["--steps", str(args.steps), "--batch_size", str(args.batch_size)]
            command = [sys.executable, __file__, "--worker", str(file), *settings]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            runs[count] = json.loads(done.stdout.splitlines()[-1])
        print(count, summarize(runs[count]), flush=True)
    report = {
        "machine": describe_hardware(),
        "settings": {"length": LENGTH, "dtype": "float16", "steps": args.steps, "batch_size": args.batch_size},
        "unit": "MiB",
        "runs": {str(count): summarize(run) for count, run in runs.items()},
    }
    args.output.write_text(json.dumps(report, indent=1) + "\n")
    draw(runs, args.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
