import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_freqdiff.codec import COLOURS, Codec
from lightning_freqdiff.domains import DOMAINS, Representation, from_half_spectrum


@given(st.integers(1, 5), st.integers(0, 2**31))
def test_statistics_do_not_depend_on_how_batches_were_cut(pieces, seed):
    rng = np.random.default_rng(seed)
    z = torch.from_numpy(rng.normal(3, 2, (60, 5, 4)))
    cuts = np.sort(rng.integers(1, 59, pieces))
    parts = [p for p in torch.tensor_split(z, torch.from_numpy(cuts)) if len(p)]
    codec = Codec(Representation("time", 5, 4))
    codec.fit(parts)
    torch.testing.assert_close(codec.mean, z.mean(0).float())
    torch.testing.assert_close(codec.scale, z.std(0, correction=0).float())
    assert codec.active.eq(1).all()


def test_constant_coordinates_keep_scale_one_and_come_back_exactly():
    x = torch.randn(50, 10, 3)
    x[:, :, 1] = 1e4  # a constant channel: its other frequencies hold float32 rounding only
    codec = Codec(Representation("frequency", 10, 3))
    codec.fit([x])
    assert codec.active.unflatten(1, (2, 3))[:, :, 1].eq(0).all()
    assert codec.scale.unflatten(1, (2, 3))[:, :, 1].eq(1).all()
    z = codec.encode(x)
    assert z.unflatten(2, (2, 3))[..., 1].eq(0).all()
    torch.testing.assert_close(codec.decode(z), x, atol=1e-2, rtol=1e-5)


def test_small_high_frequencies_are_not_mistaken_for_constants():
    spread = torch.tensor([1e4, 1, 1e-1, 0.05], dtype=torch.float64)
    codec = Codec(Representation("frequency", 7, 1))
    codec.fit([from_half_spectrum(torch.randn(100, 4, 2, dtype=torch.float64) * spread[:, None], 7)])
    assert codec.active.eq(codec.noise_scale > 0).all()


def test_statistics_need_a_series():
    with pytest.raises(ValueError, match="at least one training series"):
        Codec(Representation("time", 2, 2)).fit([])


def test_a_large_offset_leaves_the_rest_its_digits():
    generator = torch.Generator().manual_seed(0)
    x = (1e5 + torch.randn(500, 187, 1, generator=generator, dtype=torch.float64)).float()
    codec = Codec(Representation("frequency", 187, 1))
    codec.fit([x])
    assert codec.active.sum() == 187  # all but the imaginary part at DC
    exact = (codec.layout.encode(x.double()) - codec.mean) / codec.scale
    error = (codec.encode(x) - exact).abs()[:, 1:]
    assert error.max() < 0.05  # float32 itself resolves 1e5 to 0.008


def test_constant_coordinates_return_to_their_value_whatever_was_sampled():
    x = torch.randn(50, 10, 2)
    x[:, :, 1] = 3e-4
    codec = Codec(Representation("frequency", 10, 2))
    codec.fit([x])
    series = codec.decode(torch.randn(4, codec.layout.tokens, codec.layout.features))
    torch.testing.assert_close(series[:, :, 1], torch.full((4, 10), 3e-4))


def test_series_that_are_all_the_same_are_refused():
    with pytest.raises(ValueError, match="every training series is the same"):
        Codec(Representation("time", 2, 2)).fit([torch.ones(5, 2, 2)])


@given(st.integers(2, 33), st.integers(1, 3), st.sampled_from(list(DOMAINS)), st.floats(0, 1))
@settings(deadline=None, max_examples=40)
def test_the_colour_is_the_power_of_the_deviation_and_keeps_the_mean_variance(n, m, domain, colour):
    layout = Representation(domain, n, m)
    steps = torch.arange(1.0, m + 1) * torch.randn(40, n, m, generator=torch.Generator().manual_seed(n)).cumsum(1)
    steps[..., 0] = steps[0, :, 0]  # a constant channel
    if m == 1:
        steps = torch.randn(40, n, 1, generator=torch.Generator().manual_seed(n)).cumsum(1)
    equal, codec = Codec(layout), Codec(layout, colour)
    equal.fit([steps])
    codec.fit([steps])
    live = codec.active > 0
    assert torch.equal(live, equal.active > 0)
    tokens = codec.encode(steps)
    torch.testing.assert_close(tokens.var(0, correction=0), codec.variance, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(codec.decode(tokens), steps, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(codec.deviation[live], equal.scale[live], rtol=1e-4, atol=0)
    for k in range(m):
        of, on = codec.variance[:, k::m], live[:, k::m]
        if on.any():
            assert of[on].mean() == pytest.approx(1, rel=1e-4)
            slope = codec.scale[:, k::m][on].log() - colour * equal.scale[:, k::m][on].log()
            torch.testing.assert_close(slope, slope.mean().expand_as(slope), atol=1e-4, rtol=0)


def test_white_is_one_unit_for_all_and_an_unknown_colour_is_refused():
    x = torch.randn(30, 9, 2).cumsum(1)
    codec = Codec(Representation("frequency", 9, 2), COLOURS["white"])
    codec.fit([x])
    for k in range(2):
        units = codec.scale[:, k::2][codec.active[:, k::2] > 0]
        torch.testing.assert_close(units, units[:1].expand_as(units))
    with pytest.raises(ValueError, match="colour from 0 .white. to 1 .equal., got 1.5: set `model.colour`"):
        Codec(Representation("frequency", 9, 2), 1.5)
