"""Measure both ends of a large run: workers that share one, what its output costs, its memory, and streamed training.

    python benchmarks/workers.py --ckpt_path C [--parts workers output memory streaming]

Two workers need two quiet cores. Everything else is measured in one process of one thread, in turns. Linux only.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
from common import alternate, begin, parser, ratio, save
from lightning.pytorch import Callback, Trainer

import lightning_freqdiff as lf
from lightning_freqdiff.callbacks import SampleWriter, ShardWriter
from lightning_freqdiff.data import ArrayData, SeriesData, ShardedData
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.networks import MLP, UNet
from lightning_freqdiff.sampling import Sampling
from lightning_freqdiff.sampling.solvers import DEIS
from lightning_freqdiff.shards import SampleSet

SERIES, LENGTH, IN_FILE, IN_GROUP = 20_000, 187, 5_000, 1_000
WARM = 20
"""Training steps that are not counted."""
PLAIN: dict[str, Any] = {"accelerator": "cpu", "enable_progress_bar": False}
QUIET = {**PLAIN, "logger": False, "enable_model_summary": False}


def predict(checkpoint: Path, output: str, count: int, calls: int, *extra: str) -> subprocess.Popen[bytes]:
    """Start a worker of one thread."""
    command = [sys.executable, "-m", "lightning_freqdiff", "predict", "--ckpt_path", str(checkpoint)]
    command += ["--sampling.num_samples", str(count), "--sampling.batch_size", "100", "--sampling.format", "npy"]
    command += ["--sampling.solver", "DEIS", "--sampling.num_steps", str(calls), "--sampling.output", output, *extra]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)


def workers(checkpoint: Path, count: int, calls: int, rounds: int, folder: Path) -> dict[str, Any]:
    """Time one worker and two that run the same command, start-up included, each with one thread."""

    def run(number: int) -> None:
        output = folder / "workers"
        shutil.rmtree(output, ignore_errors=True)
        started = [predict(checkpoint, f"file://{output}", count, calls) for _ in range(number)]
        if any(worker.wait() for worker in started):
            raise SystemExit("a worker failed")
        samples = SampleSet(f"file://{output}")
        samples.read()
        assert not len(samples.missing())

    times = alternate({"one": lambda: run(1), "two": lambda: run(2)}, rounds, warm=0)
    return {"series": count, "calls": calls, "seconds": times, "speedup": ratio(times["one"], times["two"])}


def output(checkpoint: Path, count: int, calls: int, rounds: int, folder: Path) -> dict[str, Any]:
    """Time the same samples into one ``.npy``, and into data sets of every format."""
    module = ScoreModule.load_from_checkpoint(checkpoint)
    module.sampling = Sampling(count, calls, DEIS(), batch_size=100)

    def run(writer: Callable[[], Callback]) -> None:
        shutil.rmtree(folder / "out", ignore_errors=True)
        Trainer(callbacks=[writer()], **QUIET).predict(module, return_predictions=False)

    ways = {"samples.npy": partial(SampleWriter, str(folder / "out"))}
    ways |= {name: partial(ShardWriter, f"file://{folder}/out", name) for name in ("npy", "parquet", "zarr")}
    times = alternate({name: partial(run, writer) for name, writer in ways.items()}, rounds)
    base = times.pop("samples.npy")
    overhead = {name: median(t / b for t, b in zip(taken, base, strict=True)) - 1 for name, taken in times.items()}
    return {"series": count, "calls": calls, "seconds": {"samples.npy": base, **times}, "overhead": overhead}


def memory(counts: list[int], folder: Path) -> dict[str, Any]:
    """Return the peak of a worker's own memory for each number of series of eight steps, in MiB."""
    x = np.random.default_rng(0).normal(size=(200, 8, 1)).cumsum(1).astype(np.float32)
    lf.fit(x, network=MLP(width=8, layers=1), max_steps=5, folder=folder / "tiny", **PLAIN)
    checkpoint = next((folder / "tiny").rglob("best.ckpt"))
    peaks = {}
    for count in counts:
        worker = predict(checkpoint, f"file://{folder}/drawn-{count}", count, 2, "--sampling.batch_size", "4096")
        status, sizes = Path(f"/proc/{worker.pid}/status"), [0.0]
        while worker.poll() is None:
            sizes += [float(line.split()[1]) / 1024 for line in status.read_text().splitlines() if "RssAnon" in line]
            time.sleep(0.1)
        if worker.returncode:
            raise SystemExit("a worker failed")
        peaks[str(count)] = max(sizes)
    return {"peak_mib": peaks}


def streaming(steps: int, rounds: int, folder: Path) -> dict[str, Any]:
    """Time training steps of the small U-Net on series in memory, and on the same in Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    x = np.random.default_rng(0).normal(size=(SERIES, LENGTH, 1)).cumsum(1).astype(np.float32)
    np.save(folder / "series.npy", x)
    (folder / "series").mkdir()
    for file, part in enumerate(np.split(x, SERIES // IN_FILE)):
        pq.write_table(
            pa.table({"x": [*part[..., 0]]}), folder / "series" / f"{file}.parquet", row_group_size=IN_GROUP
        )

    def run(data: SeriesData) -> float:
        taken: list[float] = []

        class Clock(Callback):
            """Times steps from the end of the one before, but for those that a validation kept waiting."""

            since: float | None = None

            def on_train_batch_end(self, *_: Any, **__: Any) -> None:  # pyright: ignore
                now = time.perf_counter()
                taken.extend([] if self.since is None else [now - self.since])
                self.since = now

            def on_validation_start(self, *_: Any, **__: Any) -> None:  # pyright: ignore
                self.since = None

        settings = {"max_steps": WARM + steps, "limit_val_batches": 2, **PLAIN}
        lf.fit(data, network=UNet(), folder=folder / "fit", callbacks=[Clock()], **settings)
        shutil.rmtree(folder / "fit")
        return mean(taken[WARM:])

    kinds = {
        "in memory": lambda: ArrayData(str(folder / "series.npy"), batch_size=16),
        "streamed": lambda: ShardedData(str(folder / "series"), batch_size=16, val_fraction=0.02, window_mb=4),
    }
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(rounds):
        for name, make in kinds.items():
            times[name].append(run(make()))
    return {"steps": steps, "seconds": times, "rate": ratio(times["in memory"], times["streamed"])}


def main() -> None:
    options = parser(__doc__, "workers.json")
    options.add_argument("--ckpt_path", type=Path)
    options.add_argument("--parts", nargs="+", default=["output", "memory", "streaming", "workers"])
    options.add_argument("--series", type=int, default=5000, help="that workers share")
    options.add_argument("--calls", type=int, default=20, help="of the network, for each of them")
    options.add_argument("--turns", type=int, default=1, help="of the workers")
    options.add_argument("--few", type=int, default=200, help="series whose output is timed")
    options.add_argument(
        "--counts", type=int, nargs="+", default=[10**5, 10**6], help="samples whose memory is taken"
    )
    options.add_argument("--steps", type=int, default=100, help="of training that are timed")
    args = options.parse_args()
    if {"workers", "output"} & set(args.parts) and args.ckpt_path is None:
        options.error("expected a checkpoint to draw from: set --ckpt_path")
    result = begin(args)
    before = json.loads(args.output.read_text()) if args.output.is_file() else {}
    result = {**before, **{key: result[key] for key in ("machine", "complete")}}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measures = {
            "workers": lambda: workers(args.ckpt_path, args.series, args.calls, args.turns, folder),
            "output": lambda: output(args.ckpt_path, args.few, args.calls, args.rounds, folder),
            "memory": lambda: memory(args.counts, folder),
            "streaming": lambda: streaming(args.steps, args.rounds, folder),
        }
        for part in args.parts:
            result[part] = measures[part]()
            print(part, result[part], flush=True)
            save(args.output, result)
    save(args.output, {**result, "complete": True})


if __name__ == "__main__":
    main()
