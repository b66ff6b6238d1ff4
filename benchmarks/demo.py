"""The second half of `make demo`: sample the model just trained with and without a cache, and show both."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from lightning_freqdiff.data import SyntheticECG
from lightning_freqdiff.evaluation.evaluator import Evaluator
from lightning_freqdiff.metrics import relative_l2
from lightning_freqdiff.reporting import plots

FOLDER = Path("runs/demo")
SAMPLES, STEPS = 32, 500
CACHES = ("e2crf", "wiener")


def sample(name: str, checkpoint: Path, *extra: str) -> tuple[np.ndarray, dict]:
    """Run `predict` as a user would, and read back what it left."""
    output = FOLDER / name
    command = [sys.executable, "-m", "lightning_freqdiff", "predict", f"--ckpt_path={checkpoint}"]
    command += [f"--sampling.num_samples={SAMPLES}", f"--sampling.num_steps={STEPS}", f"--sampling.output={output}"]
    print("\n$", " ".join(["python", *command[1:], *extra]), flush=True)
    subprocess.run([*command, *extra], check=True)
    return np.load(output / "samples.npy"), json.loads((output / "manifest.json").read_text())


def main() -> None:
    runs = sorted(Path("runs/fit").glob("version_*/checkpoints/best.ckpt"), key=lambda p: p.stat().st_mtime)
    if not runs:
        raise SystemExit("no checkpoint under runs/fit: run `python -m lightning_freqdiff fit` first")
    if FOLDER.exists():
        for file in sorted(FOLDER.rglob("*"), reverse=True):
            file.unlink() if file.is_file() else file.rmdir()
    plain, plain_facts = sample("uncached", runs[-1])
    drawn = {"uncached": (plain, plain_facts)}
    for cache in CACHES:
        drawn[cache] = sample(cache, runs[-1], f"--config=callbacks/{cache}.yaml")
    data = SyntheticECG()
    evaluator, train = Evaluator(data), data.train_series()
    table = Table(title=f"{SAMPLES} samples, {STEPS} steps of Euler-Maruyama")
    for column in ("", "seconds", "speedup", "network calls", "relative L2", "SW to training set"):
        table.add_column(column, justify="left" if not column else "right")
    base = sum(u["seconds"] for u in plain_facts["units"])
    for name, (series, facts) in drawn.items():
        seconds = sum(u["seconds"] for u in facts["units"])
        calls = facts["reports"][0]["network_calls"] if facts["reports"] else STEPS
        relative = relative_l2(torch.from_numpy(series), torch.from_numpy(plain))["relative_l2"]
        sw = float(evaluator.distances(torch.from_numpy(series))["time"].mean())
        table.add_row(
            name, f"{seconds:.1f}", f"{base / seconds:.1f}x", f"{calls:.0f}", f"{relative:.4f}", f"{sw:.4f}"
        )
    floor = evaluator.baselines(SAMPLES)["floor"]
    table.add_row(f"{floor.count} real series", "", "", "", "", f"{floor.values['sw_time']['mean']:.4f}")
    Console().print(table)
    figure = plots.sample_gallery(plain[:6], train[:6].numpy(), ("ECG",))
    figure.savefig(FOLDER / "demo.png", dpi=130)
    print(f"pictures: {FOLDER}/demo.png and {', '.join(f'{FOLDER}/{name}/*.png' for name in drawn)}")


if __name__ == "__main__":
    main()
