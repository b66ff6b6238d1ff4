"""Pictures of whatever channels there are: their names as they are, their number, and nothing empty or hidden."""

import io
import math

import numpy as np
import pytest
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.text import Text

from lightning_freqdiff.reporting import channels
from lightning_freqdiff.reporting.caches import cache_curves, trade_off
from lightning_freqdiff.reporting.likeness import correlation_matrices, nearest_series
from lightning_freqdiff.reporting.plate import plate
from lightning_freqdiff.reporting.plots import mean_spectra, sample_gallery, series_and_spectra, spectra_with_bands

rng = np.random.default_rng(0)
NAMES = ("$a$ price $b", "_under^{score", r"back\slash $\frac$", "\x07 bell\n")
AS_SHOWN = ["$a$ price $b", "_under^{score", r"back\slash $\frac$", r"\x07 bell"]


def drawn(name: str, names, count: int) -> Figure:
    """One of the pictures that show channels."""
    x, y = (rng.normal(size=(16, 16, count)).cumsum(1) for _ in range(2))
    ours, theirs = (np.abs(np.fft.rfft(z, axis=1)) ** 2 for z in (x, y))
    few = np.corrcoef(rng.normal(size=(count, 50)))
    return {
        "gallery": lambda: sample_gallery(x[:2], y[:2], names),
        "mean": lambda: mean_spectra(ours.mean(0), theirs.mean(0), names),
        "bands": lambda: spectra_with_bands(ours, theirs, names),
        "data": lambda: series_and_spectra(x, ours, names),
        "plate": lambda: plate(x[:4], y[:4], names),
        "nearest": lambda: nearest_series(x[:2], y[:2], ["a"] * 2, names),
        "correlation": lambda: correlation_matrices(few, few, names),
    }[name]()


SEVERAL = ("gallery", "mean", "bands", "data", "plate", "nearest")


def texts(figure: Figure) -> list[str]:
    """What a reader of the saved figure sees in letters; a warning is an error, such as that of a missing glyph."""
    figure.savefig(io.BytesIO(), format="png", dpi=40)
    return [t.get_text().replace(r"\$", "$") for t in figure.findobj(Text) if t.get_visible()]


@pytest.mark.parametrize("name", [*SEVERAL, "correlation"])
@pytest.mark.slow
def test_names_are_shown_as_they_are(name):
    assert set(AS_SHOWN) <= set(texts(drawn(name, NAMES, 4)))


@pytest.mark.parametrize(
    "name", ["plate", *(pytest.param(n, marks=pytest.mark.slow) for n in SEVERAL if n != "plate")]
)
def test_of_many_channels_a_few_are_shown_and_their_number_told(name):
    figure = drawn(name, [f"c{i}" for i in range(40)], 40)
    said = texts(figure)
    shown = {text for text in said if text in {f"c{i}" for i in range(40)}}
    assert shown >= {"c0", "c39"}
    assert f"{len(shown)} of 40 channels" in said
    assert len(shown) <= channels.PANELS
    assert max(figure.get_size_inches()) < 16


def test_long_names_are_cut_in_their_middle():
    ours, theirs = channels.names([f"the same long beginning of every name {i}" for i in range(2)], 2)
    assert ours != theirs
    assert len(ours) == channels.LONGEST


@pytest.fixture
def fonts(monkeypatch):
    """The list of fonts, as it is to be for one test."""
    before = list(font_manager.fontManager.ttflist)
    channels._fonts.cache_clear()
    yield font_manager.fontManager
    font_manager.fontManager.ttflist[:] = before
    channels._fonts.cache_clear()


def test_characters_that_no_font_has_are_spelt(fonts):
    fonts.ttflist[:] = [f for f in fonts.ttflist if f.name.startswith(("DejaVu Sans", "Last"))]
    assert r"\u4fa1\u683c in €" in texts(sample_gallery(rng.normal(size=(2, 8, 2)), None, ["価格 in €", "b"]))


def test_a_font_that_has_the_characters_is_used(fonts, tmp_path):
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen

    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 700), (700, 700), (700, 0)):
        pen.lineTo(corner)
    pen.closePath()
    made = FontBuilder(1000, isTTF=True)
    made.setupGlyphOrder([".notdef", "price"])
    made.setupCharacterMap({ord("価"): "price"})
    made.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "price": pen.glyph()})
    made.setupHorizontalMetrics({".notdef": (800, 0), "price": (800, 0)})
    made.setupHorizontalHeader(ascent=800, descent=-200)
    made.setupNameTable({"familyName": "Prices", "styleName": "Regular"})
    made.setupOS2()
    made.setupPost()
    made.save(tmp_path / "prices.ttf")
    fonts.addfont(str(tmp_path / "prices.ttf"))
    assert "価" in texts(sample_gallery(rng.normal(size=(2, 8, 2)), None, ["価", "b"]))


@pytest.mark.parametrize("name", [name for name in SEVERAL if name != "data"])
@pytest.mark.slow
def test_no_legend_hides_a_curve(name):
    figure = drawn(name, ["a", "b"], 2)
    parts = [figure, *figure.subfigs]
    assert sum(len(part.legends) for part in parts) >= 1
    assert not any(axis.get_legend() for axis in figure.axes)
    figure.savefig(io.BytesIO(), format="png", dpi=40)
    for part in parts:
        for box in (legend.get_window_extent() for legend in part.legends):
            assert not any(box.overlaps(axis.get_window_extent()) for axis in figure.axes if axis.get_visible())


def test_curves_that_were_not_measured_have_no_panel():
    nan = math.nan
    curves = {"hit_rate": [0, 1, 1, 0.5], "intensity": [nan] * 4, "probe_error": [nan, nan, 0.02, nan]}
    axes = cache_curves(curves).axes
    assert [axis.get_ylabel() for axis in axes] == ["hit rate", "error of what was reused (rms)"]
    assert len({axis.get_xlim() for axis in axes}) == 1  # one scale of calls for all
    assert len(cache_curves({**curves, "intensity": [1.0, nan, nan, 2.0]}).axes) == 3


def test_a_trade_off_without_data_has_one_panel():
    row = {"name": "$a$ $b", "kind": "cache", "speedup": 3.0, "relative_l2": 0.1}
    figure = trade_off([row])
    assert len(figure.axes) == 1
    assert "$a$ $b" in texts(figure)
    assert len(trade_off([{**row, "sw_time_change": 0.01}]).axes) == 2
