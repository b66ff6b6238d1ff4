"""What the eye is shown of an evaluation."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from matplotlib.figure import Figure

from lightning_freqdiff.evaluation.findings import Findings
from lightning_freqdiff.metrics.correlational import channel_correlation
from lightning_freqdiff.metrics.nearest import flat_rows, nearest_rows
from lightning_freqdiff.reporting.likeness import correlation_matrices, nearest_series
from lightning_freqdiff.reporting.plate import plate

DRAWN = 2000
"""Series of each kind that pictures are made of, at most."""
SHOWN = 8
"""Generated series that are shown beside their closest training series."""


def pictures(found: Findings) -> Iterator[tuple[str, Figure, str]]:
    """Yield the figures, each with a title and with words for what it shows."""
    sets, settings = found.sets, found.settings
    generated, _, train = sets.equal(min(DRAWN, settings.rows), settings.seed)
    glance = plate(generated.numpy(), train.numpy(), sets.channels)
    glance.set_size_inches(12, 9.4)  # on a page its text would be too small
    yield (
        "At a glance",
        glance,
        "Generated series above real ones; quantiles of the first channel at every step, density of all values, "
        "autocorrelation, spectrum, principal components and t-SNE (where scikit-learn is installed), generated in "
        "red and real in grey.",
    )
    if sets.shape[1] > 1:
        ours, real = (channel_correlation(x).numpy() for x in (generated, train))
        yield (
            "Channels",
            correlation_matrices(ours, real, sets.channels),
            "Correlation of every channel with every other, over all series and steps.",
        )
    yield (
        "Closest training series",
        _relatives(found),
        "Generated series (thin) over their closest training series (broad), from the closest pair to the farthest, "
        "by root mean square in training deviations; the numbers are rows of the files.",
    )


def _relatives(found: Findings) -> Figure:
    sets = found.sets
    ours = sets.generated[:DRAWN]
    fake, real = flat_rows(ours, sets.train)
    distances, which = (x[:, 0] for x in nearest_rows(fake, real, 1))
    chosen = distances.argsort()[torch.linspace(0, len(ours) - 1, min(SHOWN, len(ours))).round().long()]
    unit = math.sqrt(fake.shape[1])
    titles = [
        f"generated {sets.generated_rows[i]}, training {sets.train_rows[which[i]]}: {float(distances[i]) / unit:.3g}"
        for i in chosen.tolist()
    ]
    scale = torch.stack([sets.train.mean((0, 1)), sets.train.std((0, 1), correction=0)])
    return nearest_series(
        ours[chosen].numpy(), sets.train[which[chosen]].numpy(), titles, sets.channels, scale.numpy()
    )
