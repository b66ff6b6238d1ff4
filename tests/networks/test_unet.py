"""The network that sees time: any length, any number of channels."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_networks import told_score as score

from lightning_freqdiff.networks import UNet, unet

TINY = UNet(width=8, heads=2)


@given(st.integers(2, 70), st.integers(1, 4), st.sampled_from(["frequency", "time", "wavelet", "lapped"]))
@settings(deadline=None, max_examples=25)
def test_any_length_and_any_number_of_channels(length, channels, domain):
    model = score(TINY, length, channels, domain)
    z = torch.randn(2, *model.noise_scale.shape)
    out = model(z, torch.tensor(0.4))
    assert out.shape == z.shape
    assert out.isfinite().all()
    assert out[:, model.noise_scale == 0].eq(0).all()
    singles = [model(one[None], torch.tensor(0.4)) for one in z]
    torch.testing.assert_close(out, torch.cat(singles), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(("length", "channels"), [(10_007, 1), (24, 100)])
def test_long_series_and_many_channels(length, channels):
    model = score(TINY, length, channels)
    assert model(torch.randn(1, *model.noise_scale.shape), torch.tensor(0.4)).isfinite().all()


@torch.no_grad()
def test_chunks_on_a_cpu_hold_as_many_samples_as_fit(monkeypatch):
    model = score(TINY, 32)
    network, seen = model.network, []
    whole = model(z := torch.randn(11, *model.noise_scale.shape), torch.tensor(0.4))
    monkeypatch.setattr(unet, "CPU_BYTES", 4 * 40 * 8 * 5)  # room for five, with their margins
    block = type(network).block
    monkeypatch.setattr(type(network), "block", lambda self, i, h, c: (seen.append(len(h)), block(self, i, h, c))[1])
    torch.testing.assert_close(model(z, torch.tensor(0.4)), whole, rtol=1e-4, atol=1e-5)
    assert seen == [4, 4, 3]


def test_a_shift_in_time_far_from_the_ends_shifts_what_is_seen():
    """Convolutions see time: without positions, what they make of a pulse moves with the pulse."""
    model = score(UNet(width=8, heads=2, levels=1), 256, domain="time")
    network = model.network
    with torch.no_grad():
        (body,) = network.layers
        body.attention.project.weight.zero_()
        body.attention.project.bias.zero_()
        network.get_parameter("enter.weight")[:, 2].zero_()  # the ramp
        pulse = torch.zeros(1, 256, 1)
        pulse[0, 100:104] = 1.0
        model.codec.scale.fill_(1.0)
        raw, moved = (network(z, torch.tensor(0.3)) for z in (pulse, pulse.roll(40, dims=1)))
    # Group norms see the whole series, of which a shift changes next to nothing.
    torch.testing.assert_close(raw[:, 80:130], moved[:, 120:170], atol=2e-3, rtol=1e-3)
    assert raw[:, 80:130].std() > 0.01


@torch.no_grad()
@pytest.mark.parametrize("length", [64, 57])
def test_what_never_changes_has_no_ends(length):
    """With margins as wide as all convolutions see, what is made of a constant is the same at every step."""

    def ends(margin):
        model = score(UNet(width=8, heads=2, levels=0, kernel=3, margin=margin), length, domain="time")
        network = model.network
        (body,) = network.layers
        body.attention.project.weight.zero_()
        body.attention.project.bias.zero_()
        network.get_parameter("enter.weight")[:, 2].zero_()  # the ramp
        model.codec.scale.fill_(1.0)
        raw = network(torch.ones(1, length, 1), torch.tensor(0.3))
        assert raw[:, 20].abs() > 1e-3
        return (raw - raw[:, 20:21]).abs().amax()

    assert ends(6) < 1e-5 < 1e-3 < ends(0)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (UNet(width=12), "a width that 8 and the heads divide"),
        (UNet(kernel=4), "an odd kernel"),
        (UNet(levels=-1), "levels >= 0"),
        (UNet(depth=0), "`model.network.depth`"),
        (UNet(dropout=1.5), "`model.network.dropout`"),
        (UNet(margin=-1), "`model.network.margin`"),
    ],
)
def test_impossible_settings_name_themselves(network, message):
    with pytest.raises(ValueError, match=message):
        score(network)
