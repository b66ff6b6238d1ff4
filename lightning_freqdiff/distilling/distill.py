"""Distil a model into few calls: train its network so that a few steps lead where many would.

Knowledge distillation of a sampler (Luhman and Luhman, arXiv 2101.02388; Salimans and Ho, arXiv 2202.00512), for the
steps of :class:`~lightning_freqdiff.sampling.solvers.Fitted`: their times and weights stay, the network is trained.
Each step is taught where it should lead from wherever the steps before have really led, so that it mends what they
spoilt, and no gradient runs through more than one call. Errors are weighed along each principal direction by what
they were before, so that fine detail is learnt as well as coarse shape.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lightning_freqdiff import recipe
from lightning_freqdiff.callbacks import FiniteLoss, TrainingProgress
from lightning_freqdiff.callbacks.checkpoints import WholeCheckpointIO
from lightning_freqdiff.checkpoint import (
    DISTILLED,
    MARK,
    calibration_path,
    read_checkpoint,
    weights_hash,
    write_calibration,
)
from lightning_freqdiff.diffusion.score import Score
from lightning_freqdiff.distilling.student import Lessons, Student
from lightning_freqdiff.evaluation.arithmetic import TrainerPrecision
from lightning_freqdiff.evaluation.fitting import COUNTS, fit_steps
from lightning_freqdiff.evaluation.teacher import lessons, teach
from lightning_freqdiff.keywords import spelt
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.running import MatmulPrecision, find_device, float32_products, interruptible, quietly
from lightning_freqdiff.sampling import Sampling
from lightning_freqdiff.sampling.solvers.fitted import named

if TYPE_CHECKING:
    from lightning_freqdiff.model import Model

LEAST = 64
"""Lessons that there must be."""
HELD = 16
"""One of so many lessons is held out, to tell how far the student has come."""
LEARNING_RATE = 6e-4
BUDGET = "00:00:10:00"
"""Time of a training that nothing else is said of."""
KEPT = "hyper_parameters", "pytorch-lightning_version", "epoch", "global_step"
"""What a student's checkpoint has of its teacher's, besides notes on the data."""


class Distilled(NamedTuple):
    """What came of distilling.

    Args:
        student: The student.
        before: How far the samples of so many steps were from the teacher's, relative to their spread, on lessons
            that were held out.
        after: The same, of the student.
    """

    student: ScoreModule
    before: float
    after: float


def taught(score: Score, sampling: Sampling, calls: int) -> tuple[dict[str, Tensor], Lessons]:
    """Return the steps that were or are fitted to a model, by name, and where it is at their times.

    Args:
        score: The model.
        sampling: Seed, number of samples, batch size and condition.
        calls: How many steps.
    """
    steps = {name: score.calibration[name] for name in named(calls) if name in score.calibration}
    if not steps:
        steps, _ = fit_steps(score, teach(score, sampling), sampling.batch_size, [calls])
    times = steps[named(calls)[0]]
    return steps, Lessons(times, *lessons(score, sampling, times))


def student_of(
    module: ScoreModule, calls: int, sampling: Sampling, learning_rate: float, trainer: Mapping[str, Any]
) -> Distilled:
    """Distil a model into a number of calls.

    Args:
        module: The model, which stays as it is.
        calls: Network calls that samples are to be drawn with.
        sampling: Number of lessons, their seed, batch size and condition.
        learning_rate: Peak learning rate.
        trainer: Arguments of Lightning's ``Trainer``; ten minutes where no budget is among them.

    Returns:
        The student, and what came of it.

    Raises:
        ValueError: For a number of calls that is not learnt, too few lessons, or a model that is a student itself.
    """
    if calls not in COUNTS:
        raise ValueError(f"expected {COUNTS[0]} to {COUNTS[-1]} calls, got {calls}: set `calls`")
    if sampling.num_samples < LEAST:
        raise ValueError(f"expected at least {LEAST} lessons, got {sampling.num_samples}: set `lessons`")
    if not learning_rate > 0:
        raise ValueError(f"expected learning_rate > 0, got {learning_rate}: set `learning_rate`")
    if module.data_facts.get(DISTILLED):
        raise ValueError("expected a model that was trained, got a student: set `ckpt_path` to its teacher")
    student = copy.deepcopy(module)
    score, sampling = student.score, module.said(module.as_trained(sampling))
    steps, given = taught(score, sampling, calls)
    score.calibration = steps
    if score.correction is not None:  # what leads over a whole step is no denoiser, and may be far from linear
        score.correction.keep(torch.ones_like(score.correction.kept))
    pupil = Student(score, given, learning_rate)
    few, rest = torch.arange(len(given)).tensor_split([len(given) // HELD])
    held = given.take(few)
    before = pupil.distance(held)
    _train(pupil, few, rest, max(1, sampling.batch_size // calls), trainer)
    score.to(given.rows.device).eval()
    student.data_facts = {**module.data_facts, DISTILLED: calls}
    return Distilled(student, before, pupil.distance(held))


def _train(pupil: Student, held: Tensor, numbers: Tensor, batch_size: int, trainer: Mapping[str, Any]) -> None:
    """Train on the lessons of some numbers; the weights are averaged at the end."""
    arguments = recipe.TRAINER | recipe.SAMPLER | {"max_epochs": -1, "devices": 1} | dict(trainer)
    if not {"max_steps", "max_epochs", "max_time"} & set(trainer):
        arguments["max_time"] = BUDGET
    own: list[Callback] = [FiniteLoss(), EMAWeightAveraging(**recipe.AVERAGING)]
    own += [] if trainer.get("enable_progress_bar") is False else [TrainingProgress()]
    batches = DataLoader(cast("Dataset[Tensor]", numbers), batch_size, shuffle=True)
    whole = DataLoader(cast("Dataset[Tensor]", held), len(held))
    with quietly():
        run = Trainer(**{**arguments, "callbacks": [*recipe.list_of(trainer.get("callbacks")), *own]})
        with interruptible(lambda: "distilling was interrupted, and nothing is kept" if run.interrupted else None):
            run.fit(pupil.train(), batches, whole)


def distill(
    model: Model,
    calls: int = 4,
    *,
    lessons: int = 8192,
    learning_rate: float = LEARNING_RATE,
    batch_size: int = 64,
    seed: int = 0,
    output: str | Path | None = None,
    device: str = "auto",
    precision: TrainerPrecision = "32-true",
    matmul_precision: MatmulPrecision = "high",
    **trainer: Any,
) -> Model:
    """Train a copy of a model to draw its samples with a few calls, by the ``Fitted`` solver.

    Args:
        model: The model, which stays as it is.
        calls: Network calls of a sample, from 2 to 12.
        lessons: Samples that the teacher draws; they are all that is learnt from.
        learning_rate: Peak learning rate.
        batch_size: Network calls that are trained on, or made, at once.
        seed: Of the lessons and of their order.
        output: Checkpoint to write, ``.ckpt``; the model must be from one. Its steps are written beside it.
        device: ``cpu``, ``cuda`` ...; ``auto`` takes a GPU if there is one.
        precision: Of all of it.
        matmul_precision: What products of float32 numbers are made of.
        **trainer: Arguments of Lightning's ``Trainer``, such as ``max_time`` and ``max_steps``; ten minutes if there
            is no budget among them.

    Returns:
        The student: ``student.sample(64, solver="Fitted", num_steps=calls)``.

    Raises:
        ValueError: For settings that cannot be.

    Examples:
        >>> import lightning_freqdiff as lf, numpy as np
        >>> series, quiet = np.random.default_rng(0).normal(size=(64, 16, 2)), {"enable_progress_bar": False}
        >>> model = lf.fit(series, network="MLP", max_steps=2, logger=False, enable_checkpointing=False, **quiet)
        >>> student = lf.distill(model, 2, lessons=64, max_steps=3, **quiet)
        >>> student.sample(3, solver="Fitted", num_steps=2, **quiet).shape
        (3, 16, 2)
    """
    path = None if output is None else Path(output).expanduser()
    if path is not None:
        check_output(path, model.checkpoint_path)
    sampling = Sampling(num_samples=lessons, batch_size=batch_size, seed=seed)
    there, before = find_device(device), model.module.device
    low = torch.autocast(there.type, torch.bfloat16, enabled=precision == "bf16-mixed")
    trainer = {"accelerator": "gpu" if there.type == "cuda" else there.type, "precision": precision, **trainer}
    try:
        with spelt(), low, float32_products(matmul_precision), isolate_rng():
            seed_everything(seed, workers=True, verbose=False)
            found = student_of(model.module.to(there), calls, sampling, learning_rate, trainer)
    finally:
        model.module.to(before)
    rank_zero_info(told(calls, found))
    if path is not None and model.checkpoint_path is not None:
        save(found.student, model.checkpoint_path, path)
    return type(model)(found.student.to(before), path, model.data)


def told(calls: int, found: Distilled) -> str:
    """Say in a line what distilling has brought."""
    line = f"{calls} calls: {found.after:.3g} from the teacher's samples, relative to their spread"
    if found.after < found.before:
        return f"{line}; {found.before:.3g} before"
    return f"{line}, no nearer than the {found.before:.3g} before: raise `max_time` or `lessons`"


def check_output(path: Path, teacher: Path | None) -> None:
    """Refuse a place for a student before any work.

    Raises:
        ValueError: For a name that is no checkpoint's, a file that is there, or a teacher without a checkpoint.
        FileNotFoundError: Where there is no such folder.
    """
    if path.suffix != ".ckpt":
        raise ValueError(f"expected a file name ending in .ckpt, got {path}: set `output`")
    if path.exists():
        raise ValueError(f"expected a new file, but {path} is there already: set `output`")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"expected a folder to write to, found none at {path.parent}: set `output`")
    if teacher is None or teacher.suffix == ".safetensors":
        raise ValueError("expected a model from a checkpoint, whose settings its student has: leave out `output`")


def save(student: ScoreModule, teacher: Path, path: Path) -> None:
    """Write a student as a checkpoint, with its steps beside it.

    Args:
        student: The student.
        teacher: Checkpoint of its teacher, whose settings it has.
        path: Where to.
    """
    content = read_checkpoint(teacher)
    kept = {name: value for name, value in content.items() if name in KEPT}
    state = {name: value.cpu() for name, value in student.state_dict().items()}
    facts = {**content[MARK], DISTILLED: student.data_facts[DISTILLED]}
    WholeCheckpointIO().save_checkpoint({**kept, "state_dict": state, MARK: facts}, path)
    write_calibration(calibration_path(path), student.score.calibration, weights_hash(student))
