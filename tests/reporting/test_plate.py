"""The picture that lets the eye judge shows what it says: both kinds of series, and figures of them."""

import numpy as np
import pytest

from lightning_freqdiff.reporting.plate import plate

RANDOM = np.random.default_rng(0)


def walks(count, length=20, channels=1):
    return RANDOM.normal(size=(count, length, channels)).cumsum(1)


def drawn(figure):
    """All axes that show anything, by title or label."""
    figure.canvas.draw()
    return [axis for axis in figure.axes if axis.get_visible()]


@pytest.mark.parametrize("channels", [1, 3, 9])
def test_samples_stand_above_real_series(channels):
    ours, theirs = walks(12, channels=channels), walks(30, channels=channels)
    axes = drawn(plate(ours, theirs, [f"c{m}" for m in range(channels)], "title"))
    top, bottom = axes[:8], axes[8:16]
    if channels == 1:
        for i in range(8):
            np.testing.assert_array_equal(top[i].lines[0].get_ydata(), ours[i, :, 0])
            np.testing.assert_array_equal(bottom[i].lines[0].get_ydata(), theirs[i, :, 0])
    else:
        mean, deviation = theirs.mean((0, 1)), theirs.std((0, 1))
        first = [line.get_ydata() for line in top[0].lines]
        assert len(first) == min(channels, 4)
        second = {3: 1, 9: 3}[channels]  # of many, some from the first to the last
        np.testing.assert_allclose(first[1], ((ours[0] - mean) / deviation)[:, second])
    assert top[0].get_ylabel().startswith("generated")
    assert bottom[0].get_ylabel().startswith("real")


def test_the_lines_are_the_sets_own_statistics():
    ours, theirs = walks(40), 2 + walks(50)
    figure = plate(ours, theirs)
    axes = drawn(figure)
    mean, deviation = theirs.mean(), theirs.std()
    quantiles = next(axis for axis in axes[16:] if len(axis.lines) == 2 and len(axis.collections) == 2)
    (legend,) = figure.subfigs[1].legends
    named = {
        line.get_color(): text.get_text() for line, text in zip(legend.get_lines(), legend.get_texts(), strict=True)
    }
    medians = {named[line.get_color()]: np.asarray(line.get_ydata()) for line in quantiles.lines}
    for name, x in (("generated", ours), ("real", theirs)):
        np.testing.assert_allclose(medians[name], np.median((x[:, :, 0] - mean) / deviation, axis=0))
    correlation = next(axis for axis in axes if axis.get_ylabel() == "autocorrelation")
    for line in correlation.lines:
        assert np.asarray(line.get_ydata())[0] == pytest.approx(1)


def test_few_series_constant_channels_and_short_lengths_are_drawn():
    constant = np.concatenate([walks(3, 2), np.ones((3, 2, 1))], axis=2)
    assert len(drawn(plate(constant, constant[:2]))) >= 4
