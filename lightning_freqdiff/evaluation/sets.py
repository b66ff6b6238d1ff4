"""The sets of an evaluation: what was generated, what the model knew, and real series that are held out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from lightning_freqdiff.evaluation.labels import Labels
from lightning_freqdiff.metrics.baselines import draw_fresh
from lightning_freqdiff.metrics.samples import check_samples

PART = "a random part of the reference"
"""What is held out where no series were given for it."""


@dataclass(frozen=True)
class Sets:
    """Three sets of series of one shape.

    Args:
        generated: What a model made, ``(n, N, M)``.
        train: Real series it was trained on, ``(m, N, M)``.
        held_out: Other real series, ``(r, N, M)``.
        held_out_from: Where the held-out series come from, in words.
        channels: Names of the channels.
        generated_rows: Which of the generated series given these are, ``(n,)``.
        train_rows: Which of the reference series given these are, ``(m,)``.
        warnings: What speaks against trusting the figures.
        labels: Classes of the series, where all sets have them.
    """

    generated: Tensor
    train: Tensor
    held_out: Tensor
    held_out_from: str
    channels: tuple[str, ...]
    generated_rows: np.ndarray
    train_rows: np.ndarray
    warnings: tuple[str, ...] = ()
    labels: Labels | None = None

    @classmethod
    def of(
        cls,
        generated: Tensor,
        reference: Tensor,
        holdout: Tensor | None = None,
        channels: Sequence[str] = (),
        seed: int = 0,
        labels: Mapping[str, np.ndarray] | None = None,
    ) -> Sets:
        """Take series in memory, and hold a part of the reference out where there is no ``holdout``.

        As many are held out as were generated, and never more than half.

        Args:
            generated: Series ``(n, N, M)``.
            reference: Training series ``(m, N, M)``, at least 2.
            holdout: Real series that were not trained on, ``(r, N, M)``.
            channels: Names of the channels.
            seed: Which series are held out.
            labels: Labels of ``generated``, ``reference`` and ``holdout``, ``(n,)`` each, as far as they are known.

        Raises:
            ValueError: On unequal shapes, NaN, too few series.
        """
        given = {"generated": generated, "reference": reference, "holdout": holdout}
        present = {name: x.detach().cpu().float() for name, x in given.items() if x is not None}
        for name, x in present.items():
            _check_shape(check_samples(x, name), name, reference)
        rows = np.arange(len(reference))
        held, origin = present.get("holdout"), "the holdout"
        if held is None:
            if len(reference) < 2:
                raise ValueError("expected at least 2 series to hold one out, got 1: add some to `reference`")
            out = np.random.default_rng([seed, 3]).permutation(len(reference))
            out = out[: min(len(generated), len(reference) // 2)]
            held, origin = present["reference"][np.sort(out)], PART
            rows = np.setdiff1d(rows, out)
        sets = cls(
            present["generated"],
            present["reference"][rows],
            held,
            origin,
            tuple(channels) or tuple(f"channel {i}" for i in range(reference.shape[2])),
            np.arange(len(generated)),
            rows,
            labels=_labels(labels or {}, rows, holdout is not None),
        )
        return replace(sets, warnings=(*_same_rows(sets, present), *_constant(sets)))

    @property
    def shape(self) -> tuple[int, int]:
        """Steps and channels ``(N, M)``."""
        return self.train.shape[1], self.train.shape[2]

    def equal(self, rows: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        """Draw as many generated as held-out series, and training series to hold both against, ``rows`` at most.

        Distances are biased by the count, so only figures of equal counts compare.
        """
        count = min(len(self.generated), len(self.held_out), rows)
        return (
            draw_generated(self.generated, count, seed),
            draw_fresh(self.held_out, count, seed),
            _some(self.train, rows, seed, 6),
        )


def _labels(given: Mapping[str, np.ndarray], rows: np.ndarray, apart: bool) -> Labels | None:
    """Part the labels as the series were, where all of them are known."""
    if not {"generated", "reference", *(("holdout",) if apart else ())} <= set(given):
        return None
    real = given["reference"]
    held = given["holdout"] if apart else np.delete(real, rows)
    return Labels.of(given["generated"], real[rows], held)


def draw_generated(x: Tensor, count: int, seed: int) -> Tensor:
    """Draw generated series."""
    return _some(x, count, seed, 4)


def _some(x: Tensor, count: int, seed: int, stream: int) -> Tensor:
    return x[torch.from_numpy(np.random.default_rng([seed, stream]).permutation(len(x))[:count])]


def _check_shape(x: Tensor, name: str, reference: Tensor) -> None:
    """Say in which of steps and channels a set differs from the reference."""
    for axis, what in ((1, "steps"), (2, "channels")):
        if x.shape[axis] != reference.shape[axis]:
            long = "or, if it is a long table, name its columns by `data.id` and `data.time`"
            mend = f", cut windows of the reference by `data.window`, {long}" if what == "steps" else ""
            raise ValueError(
                f"expected series of {reference.shape[axis]} {what} as in `reference`, got {x.shape[axis]} in "
                f"`{name}`: make them alike{mend}"
            )


def _same_rows(sets: Sets, given: dict[str, Tensor]) -> list[str]:
    """Look for series that stand in two of the sets given."""
    rows = {name: [row.tobytes() for row in x.numpy()] for name, x in given.items()}
    said = []
    for name, meaning in (("reference", "a perfect copy"), ("holdout", "the floor itself")):
        if name in rows and set(rows["generated"]) <= set(rows[name]):
            said.append(f"`generated` holds the very series of `{name}`: every figure is that of {meaning}")
    known = set(rows["reference"])
    shared = sum(row in known for row in rows.get("holdout", ()))
    if shared:
        said.append(
            f"{shared:,} of the {len(given['holdout']):,} series of `holdout` are in `reference` too: the floor is "
            "too low, and copies of them pass for fresh; take them out of one"
        )
    if sets.held_out_from == PART:
        said.append(
            f"no `holdout`: the floor is that of {len(sets.held_out):,} series drawn from `reference` and left out "
            "of it here; if the model was trained on them, memorization sees copies of the others alone"
        )
    return said


def _constant(sets: Sets) -> list[str]:
    """Look for channels that never change."""
    still = {
        name: [c for c, flat in zip(sets.channels, (x == x[:1, :1]).all(0).all(0).tolist(), strict=True) if flat]
        for name, x in (("reference", sets.train), ("generated", sets.generated))
    }
    said = []
    if still["reference"]:
        said.append(f"channels that never change in `reference`: {', '.join(still['reference'])}")
    collapsed = [name for name in still["generated"] if name not in still["reference"]]
    if collapsed:
        said.append(f"channels that change in `reference` but never in `generated`: {', '.join(collapsed)}")
    return said
