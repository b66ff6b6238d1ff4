"""Train on synthetic, test on real: are generated series of use to a classifier?"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from lightning_freqdiff.metrics.post_hoc import (
    PostHoc,
    RecurrentHead,
    batched,
    build,
    draw,
    fit,
    standardize,
    training,
)
from lightning_freqdiff.metrics.samples import check_least, widen

CLASSIFIER = PostHoc(lr=1e-2)
"""At 1e-3, the steps are too few: of 1,000 heartbeats in five classes it learnt the most frequent one alone."""


def train_on_synthetic(
    generated: Tensor,
    generated_labels: Tensor,
    train: Tensor,
    train_labels: Tensor,
    test: Tensor,
    test_labels: Tensor,
    settings: PostHoc | None = None,
) -> dict[str, float]:
    """Train a recurrent classifier on generated series and another on real ones, and test both on held-out real ones.

    (Esteban et al., arXiv 1706.02633.) Both see as many series: of the larger set a random part is left out. The
    logits are the mean over the steps, as what comes last in a series may be padding. Costs two post-hoc networks:
    with the default settings and 187 steps, two minutes of a core.

    Args:
        generated: Series, ``(n, N, M)``.
        generated_labels: Their classes, integers ``(n,)``, of those in ``train_labels``.
        train: Real series, ``(m, N, M)``.
        train_labels: Their classes, integers ``(m,)``, of which two differ.
        test: Held-out real series, ``(r, N, M)``.
        test_labels: Their classes, integers ``(r,)``, of those in ``train_labels``.
        settings: How the classifiers are trained; values compare only under equal settings and counts.

    Returns:
        Accuracies ``synthetic`` and ``real``, by what was trained on; ``difference``, by how much the real is better;
        ``chance``, the accuracy of always naming the most frequent class of the test series. The same with
        ``balanced_`` before: the mean over classes of the share that is recognised, which a rare class counts in as
        much as a frequent one, and whose chance is that of naming one class for all.

    Raises:
        ValueError: On series of unequal shape, labels that are not one integer for each series, unknown labels.

    Examples:
        >>> labels = torch.arange(2).repeat(50)
        >>> series = labels[:, None, None] + 0.1 * torch.randn(100, 6, 1)
        >>> quick = PostHoc(hidden=8, layers=1, steps=60, batch_size=32, lr=0.03)
        >>> found = train_on_synthetic(series, labels, series, labels, series, labels, quick)
        >>> found["synthetic"] > 0.9, found["chance"]
        (True, 0.5)
    """
    sets = {"generated": (generated, generated_labels), "train": (train, train_labels), "test": (test, test_labels)}
    classes = _check(sets)
    settings = settings or CLASSIFIER
    with training(train.device):
        real = widen(train).clone()
        random = torch.Generator().manual_seed(settings.seed)
        count = min(len(generated), len(train))
        ready = {}
        for name, (series, labels) in sets.items():
            order = torch.randperm(len(series), generator=random)[: None if name == "test" else count]
            scaled = standardize(widen(series).clone().to(real.device), real)
            ready[name] = scaled[order.to(real.device)], _numbered(labels, classes)[order].to(real.device)
        held_out, truth = ready["test"]
        correct = []
        for name in ("generated", "train"):
            series, labels = ready[name]
            correct.append(_classified(series, labels, held_out, len(classes), settings) == truth)
    counts = truth.bincount().double()
    found = {}
    for prefix, weight in (("", torch.ones_like(counts)), ("balanced_", 1 / counts.clamp(min=1))):
        weights = weight[truth]
        synthetic, genuine = (float(weights[right].sum() / weights.sum()) for right in correct)
        found |= {f"{prefix}synthetic": synthetic, f"{prefix}real": genuine}
        found[f"{prefix}difference"] = genuine - synthetic
        found[f"{prefix}chance"] = float((counts * weight).max() / weights.sum())
    return found


def _classified(x: Tensor, labels: Tensor, test: Tensor, classes: int, settings: PostHoc) -> Tensor:
    """Train a classifier on series ``(n, N, M)`` and return what it says of others, ``(r,)``."""
    # Each classifier draws the same initial weights and batches.
    random = torch.Generator().manual_seed(settings.seed)
    net = build(lambda: RecurrentHead(x.shape[2], settings.hidden, settings.layers, classes), settings.seed, x.device)

    def loss() -> Tensor:
        rows = draw(torch.arange(len(x)), settings.batch_size, random).to(x.device)
        return cross_entropy(net(x[rows]).mean(1), labels[rows])

    fit(net, loss, settings.steps, settings.lr)
    return batched(net, test).mean(1).argmax(1)


def _numbered(labels: Tensor, classes: Tensor) -> Tensor:
    return torch.searchsorted(classes, labels.detach().cpu())


def _check(sets: dict[str, tuple[Tensor, Tensor]]) -> Tensor:
    """Return the classes, or raise a ``ValueError`` that names the argument at fault."""
    shape = sets["train"][0].shape[1:]
    for name, (series, labels) in sets.items():
        check_least(series, name, 1)
        if series.shape[1:] != shape:
            raise ValueError(
                f"expected series of (N, M) = {tuple(shape)} as in `train`, got {tuple(series.shape[1:])}: "
                f"cut or resample `{name}`"
            )
        if labels.shape != series.shape[:1] or labels.is_floating_point() or labels.is_complex():
            raise ValueError(
                f"expected {len(series)} integers, one for each series, got {labels.dtype} of shape "
                f"{tuple(labels.shape)}: set `{name}_labels`"
            )
    classes = sets["train"][1].detach().cpu().unique()
    if len(classes) < 2:
        raise ValueError(f"expected at least 2 classes, got {classes.tolist()}: add some to `train_labels`")
    for name in ("generated", "test"):
        unknown = set(sets[name][1].tolist()) - set(classes.tolist())
        if unknown:
            raise ValueError(
                f"expected the classes of `train_labels`, got {sorted(unknown)} besides: leave them out of "
                f"`{name}` and `{name}_labels`"
            )
    return classes
