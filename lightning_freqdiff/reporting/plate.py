"""One picture that lets the eye judge: generated series beside real ones, and what they have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lightning_freqdiff.reporting.channels import LINES, chosen, legend, legible, letter, names, tell_chosen
from lightning_freqdiff.reporting.plots import GENERATED, TRAINING, Array, style

SHOWN = 8
"""Series of each kind that are drawn whole."""

MAPPED = 400
"""Series of each kind that are mapped to the plane, at most."""


def plate(generated: Array, real: Array, channels: Sequence[str] = (), title: str = "") -> Figure:
    """Draw samples beside real series, quantiles over time, spectra, autocorrelations, densities, PCA and t-SNE.

    Args:
        generated: Series ``(n, N, M)``, in the data's units.
        real: Real series ``(m, N, M)``.
        channels: Names of the channels.
        title: What stands above.

    Returns:
        A figure; t-SNE is left out where scikit-learn is not installed (extra ``plates``).
    """
    figure = Figure(figsize=(15, 9.2), layout="constrained")
    figure.suptitle(legible(title), fontsize=11)
    whole, below = np.ravel(figure.subfigures(2, 1, height_ratios=(1, 1.35)))  # pyright: ignore
    mean, deviation = real.mean((0, 1)), real.std((0, 1))
    unit = np.where(deviation > 0, deviation, 1.0)
    ours, theirs = ((x - mean) / unit for x in (generated, real))
    if generated.shape[2] > 1:  # in units of their own, one channel can dwarf the others
        _series(whole, ours, theirs, channels)
    else:
        _series(whole, generated, real, channels)
    axes = below.subplots(2, 3).flatten()
    _quantiles(axes[0], ours, theirs)
    legend(below, axes[0].lines, ("real", "generated"))
    _density(axes[1], ours, theirs)
    _lines(axes[2], _autocorrelation(ours), _autocorrelation(theirs), "lag", "autocorrelation")
    _spectra(axes[3], ours, theirs)
    _points(axes[4], *_components(ours, theirs), "first two principal components of the real series")
    mapped = _neighbours(ours, theirs)
    if mapped is None:
        axes[5].set_visible(False)
    else:
        _points(axes[5], *mapped, "t-SNE of both together")
    return letter(figure)


def _series(figure: Any, generated: Array, real: Array, channels: Sequence[str]) -> None:
    columns = min(SHOWN, len(generated), len(real))
    axes = figure.subplots(2, columns, squeeze=False, sharex=True, sharey=generated.shape[2] == 1)
    count, several = generated.shape[2], generated.shape[2] > 1
    shown, named = chosen(count, LINES), names(channels, count)
    for row, kind, series, color in zip(
        axes, ("generated", "real"), (generated, real), (GENERATED, TRAINING), strict=True
    ):
        for axis, one in zip(row, series[:columns], strict=True):
            style(axis)
            for place, m in enumerate(shown):
                axis.plot(one[:, m], lw=1, color=f"C{place}" if several else color)
        row[0].set_ylabel(f"{kind} (standardised)" if several else kind, fontsize=9)
    if several:
        legend(figure, axes[0][0].lines, [named[m] for m in shown])
    tell_chosen(figure, count, len(shown))


def _quantiles(axis: Axes, ours: Array, theirs: Array) -> None:
    """Draw the 10, 50 and 90 % quantiles of the first channel at every step."""
    for x, color in ((theirs, TRAINING), (ours, GENERATED)):
        low, middle, high = np.quantile(x[:, :, 0], (0.1, 0.5, 0.9), axis=0)
        axis.fill_between(np.arange(len(middle)), low, high, color=color, alpha=0.2, lw=0)
        axis.plot(middle, color=color, lw=1.3)
    style(axis, "step", "first channel: median, 10 to 90 %")


def _density(axis: Axes, ours: Array, theirs: Array) -> None:
    """Draw the density of all values, channels standardised by the real ones."""
    low, high = np.quantile(theirs, (0.001, 0.999))
    edges = np.linspace(low, high, 81)
    for x, color in ((theirs, TRAINING), (ours, GENERATED)):
        axis.stairs(np.histogram(x, edges)[0] / x.size / np.diff(edges), edges, color=color, lw=1.3)
    axis.set_yscale("log")
    style(axis, "value (standardised channels)", "density")


def _autocorrelation(x: Array) -> Array:
    """Return the mean autocorrelation of series about their own means, over series and channels, ``(N,)``."""
    centred = x - x.mean(1, keepdims=True)
    power = np.abs(np.fft.rfft(centred, 2 * x.shape[1], axis=1)) ** 2
    raw = np.fft.irfft(power, axis=1)[:, : x.shape[1]].mean((0, 2))
    return raw / max(raw[0], 1e-30)


def _spectra(axis: Axes, ours: Array, theirs: Array) -> None:
    def spectrum(x: Array) -> Array:
        density = (np.abs(np.fft.rfft(x, axis=1, norm="ortho")) ** 2).mean((0, 2))
        return np.where(density > 0, density, np.nan)

    _lines(
        axis, spectrum(ours), spectrum(theirs), "frequency (cycles per series)", "mean |x̃|² (standardised channels)"
    )
    axis.set_yscale("log")


def _lines(axis: Axes, ours: Array, theirs: Array, xlabel: str, ylabel: str) -> None:
    axis.plot(theirs, color=TRAINING, lw=1.5)
    axis.plot(ours, color=GENERATED, lw=1.2)
    style(axis, xlabel, ylabel)


def _components(ours: Array, theirs: Array) -> tuple[Array, Array]:
    """Project both on the real series' first two principal components."""
    flat = theirs.reshape(len(theirs), -1)
    mean = flat.mean(0)
    vectors = np.linalg.svd(flat[: 4 * MAPPED] - mean, full_matrices=False)[2][:2].T
    return (ours.reshape(len(ours), -1)[:MAPPED] - mean) @ vectors, (flat[:MAPPED] - mean) @ vectors


def _neighbours(ours: Array, theirs: Array) -> tuple[Array, Array] | None:
    """Map both to the plane by t-SNE (van der Maaten and Hinton 2008), always alike; ``None`` without its library."""
    try:
        from sklearn.manifold import TSNE
    except ImportError:
        return None
    count = min(MAPPED, len(ours), len(theirs))
    if count < 20:
        return None
    rows = np.concatenate([x[:count].reshape(count, -1) for x in (ours, theirs)])
    plane = TSNE(perplexity=min(30, count // 3), init="pca", random_state=0).fit_transform(rows)
    return plane[:count], plane[count:]


def _points(axis: Axes, ours: Array, theirs: Array, title: str) -> None:
    axis.scatter(*theirs.T[:2], s=6, color=TRAINING, alpha=0.45, lw=0)
    axis.scatter(*ours.T[:2], s=6, color=GENERATED, alpha=0.45, lw=0)
    style(axis, title)
    axis.set_xticks([])
    axis.set_yticks([])
