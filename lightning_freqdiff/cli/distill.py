"""`distill` on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser
from rich.console import Console

from lightning_freqdiff.distilling import LEARNING_RATE, check_output, save, student_of, told
from lightning_freqdiff.module import ScoreModule


def add_distill(parser: ArgumentParser) -> None:
    """Add the options of `distill` that no other study has."""
    parser.add_argument("--calls", type=int, default=4, help="Network calls of a sample, from 2 to 12.")
    parser.add_argument("--lessons", type=int, default=8192, help="Samples that the teacher draws to learn from.")
    parser.add_argument("--learning_rate", type=float, default=LEARNING_RATE, help="Peak learning rate.")
    parser.add_argument("--batch_size", type=int, default=64, help="Calls that are trained on, or made, at once.")
    parser.add_argument("--seed", type=int, default=0, help="Of the lessons, and of their order.")
    parser.add_argument(
        "--max_time", type=str, default=None, help="Time of the training, DD:HH:MM:SS; ten minutes by default."
    )
    parser.add_argument("--max_steps", type=int, default=None, help="Steps of the training, in place of a time.")
    parser.add_argument(
        "--output", type=str, default=None, help="Checkpoint to write; beside the teacher's if not given."
    )


def distill(config: Any, module: ScoreModule, data: object, console: Console) -> None:
    """Distil a model, and write its student as a checkpoint."""
    teacher = Path(config.ckpt_path)
    path = Path(config.output) if config.output else teacher.with_name(f"{teacher.stem}-{config.calls}-calls.ckpt")
    check_output(path, teacher)
    given = {"max_time": config.max_time, "max_steps": config.max_steps, "precision": config.precision}
    trainer = {name: value for name, value in given.items() if value is not None}
    kind = "gpu" if module.device.type == "cuda" else module.device.type
    found = student_of(module, config.calls, config.sampling, config.learning_rate, {"accelerator": kind, **trainer})
    save(found.student, teacher, path)
    console.print(told(config.calls, found), highlight=False)
    console.print(f"student: {path}", highlight=False, soft_wrap=True)
    console.print(
        f"use it:  python -m lightning_freqdiff predict --ckpt_path {path} --sampling.solver Fitted "
        f"--sampling.num_steps {config.calls}",
        highlight=False,
        soft_wrap=True,
    )
