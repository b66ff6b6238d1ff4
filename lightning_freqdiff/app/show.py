"""What a visitor is shown of a pair: pictures and figures as elements of a page."""

from __future__ import annotations

from html import escape

from matplotlib.figure import Figure

from lightning_freqdiff.app.studio import Pair, Relatives, Studio, series_of
from lightning_freqdiff.domains import spectral_density
from lightning_freqdiff.hub import WEIGHTS
from lightning_freqdiff.model import Model
from lightning_freqdiff.reporting.likeness import nearest_series
from lightning_freqdiff.reporting.page import Page, shown
from lightning_freqdiff.reporting.pairs import COLUMNS, spectra, twins

SHOWN = 8
"""Series that are drawn, at most."""


def figures(studio: Studio, pair: Pair, relatives: Relatives | None) -> dict[str, Figure]:
    """Draw the series of both, their spectra, and their closest training series where these are known.

    Returns:
        Figures ``uncached``, ``cached``, ``spectra`` and, with training series, ``nearest``.
    """
    ours, through = (series_of(run) for run in (pair.uncached, pair.cached))
    channels = studio.model.channels
    scale = None if relatives is None else relatives.scale.numpy()
    first, second = twins(ours[:SHOWN].numpy(), through[:SHOWN].numpy(), channels, scale)
    known = {} if studio.train is None else {"training": studio.train}
    sets = {**known, "every call": ours, pair.cache: through}
    densities = {name: spectral_density(x).mean(0).numpy() for name, x in sets.items()}
    drawn = {"uncached": first, "cached": second, "spectra": spectra(densities, channels)}
    if relatives is not None:
        titles = [f"series {i}: {float(d):.3g}" for i, d in enumerate(relatives.distances[:SHOWN])]
        near = relatives.series[:SHOWN].numpy()
        drawn["nearest"] = nearest_series(through[:SHOWN].numpy(), near, titles, channels, scale, COLUMNS)
    return drawn


def result(studio: Studio, pair: Pair) -> str:
    """Return what was drawn as the body of a page."""
    relatives = studio.relatives(series_of(pair.cached)[:SHOWN])
    drawn, page = figures(studio, pair, relatives), Page("")
    count, found = len(series_of(pair.cached)), pair.distance
    page.parts.append(
        '<dl class="facts">'
        + _fact("ratio", f"{pair.ratio:.1f}×", "faster through the cache" if pair.ratio > 1 else "no faster")
        + _fact("distance", shown(found["relative_l2"]), f"relative L2; median {shown(found['relative_l2_median'])}")
        + _fact("calls", f"{pair.cached.totals['network_calls']:.0f}", f"of {_calls(pair):,} network calls")
        + "</dl>"
    )
    few = f" The first {SHOWN} of {count} are shown." if count > SHOWN else ""
    page.parts.append('<div class="pair">')
    for key, title, seconds, words in (
        ("uncached", "Every network call", pair.uncached.seconds[0], "with every network call"),
        ("cached", f"Through {pair.cache}", pair.cached.seconds[0], f"from the same noise, through {pair.cache}"),
    ):
        page.parts.append(f"<figure><figcaption>{escape(title)} <b>{seconds:.2f} s</b></figcaption>")
        page.figure(drawn[key], f"Series drawn {words}")
        page.parts.append("</figure>")
    page.parts.append("</div>")
    page.text(f"{count} series from the same noise, timed one after the other; panels share their axes.{few}")
    page.heading("Spectra")
    page.figure(drawn["spectra"], "Mean spectral density of both, over that of training series where these are known")
    if relatives is not None:
        page.heading("Closest training series")
        page.text(
            "Thin: drawn through the cache. Broad: the closest training series, with the distance in deviations."
        )
        page.figure(drawn["nearest"], "Each series over its closest training series")
    page.heading("The same in Python")
    page.parts.append(f"<pre>{escape(snippet(pair, studio.model))}</pre>")
    return "\n".join(page.parts)


def snippet(pair: Pair, model: Model) -> str:
    """Return the lines of Python that draw the cached series of a pair."""
    sampling, path = pair.cached.contender.sampling, model.checkpoint_path
    known = "" if sampling.condition is None else f", condition=lf.sampling.{sampling.condition!r}"
    return (
        "import lightning_freqdiff as lf\n\n"
        f'model = lf.load("{"..." if path is None or path.name == WEIGHTS else path.name}")\n'
        f"model.sample({sampling.num_samples}, num_steps={sampling.num_steps}, seed={sampling.seed}, "
        f'solver="{type(sampling.solver).__name__}", cache="{pair.cache}"{known})'
    )


def message(text: str) -> str:
    """Return a message as an element that is read out."""
    return f'<p class="message" role="alert">{escape(text)}</p>'


def _calls(pair: Pair) -> int:
    return pair.uncached.contender.sampling.num_calls


def _fact(key: str, value: str, words: str) -> str:
    return f'<div id="{key}"><dt>{escape(words)}</dt><dd>{escape(value)}</dd></div>'
