"""Layers in integers: their kernels against plain arithmetic, their ends, and sampling with them."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import lightning_freqdiff as lf
from lightning_freqdiff.caching import E2CRF, CachedScore, DeepCache, ToMe, Wiener
from lightning_freqdiff.callbacks import CacheCallback, Quantize
from lightning_freqdiff.callbacks.presets import read_plugged, read_preset
from lightning_freqdiff.condition import NOTHING
from lightning_freqdiff.evaluation.arithmetic import arithmetic
from lightning_freqdiff.evaluation.contenders import Contender
from lightning_freqdiff.evaluation.presets import as_yaml
from lightning_freqdiff.evaluation.ranges import best_ends, input_ranges
from lightning_freqdiff.evaluation.teacher import Paths, teach
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.networks import LSTM, Transformer, UNet, unet
from lightning_freqdiff.networks.flops import count_flops
from lightning_freqdiff.networks.low_bit import (
    LEVELS,
    RANGE,
    LowBit,
    grid,
    has_kernels,
    in_low_bits,
    quantizable,
)
from lightning_freqdiff.networks.unet import UNetBackbone
from lightning_freqdiff.sampling import Sampling

LAYERS = {
    "linear": (nn.Linear(6, 5), (3, 7, 6)),
    "bare": (nn.Linear(6, 5, bias=False), (3, 7, 6)),
    "convolution": (nn.Conv1d(6, 5, 5, padding=2), (3, 6, 9)),
    "skip": (nn.Conv1d(6, 5, 1), (3, 6, 9)),
}


@pytest.fixture(params=LAYERS, ids=str)
def layer(request):
    torch.manual_seed(0)
    layer, shape = copy.deepcopy(LAYERS[request.param])
    return layer, torch.randn(shape) * 2 + 1


@pytest.mark.parametrize("bits", [8, 4])
def test_integers_are_summed_exactly(layer, bits):
    """Against sums of whole numbers in float64, whichever way they are taken."""
    plain, x = layer
    low = LowBit(plain, float(x.min()), float(x.max()), bits)
    assert low.whole.abs().max() <= 2 ** (bits - 1) - 1
    told = ((x / low.scale).round() + low.zero).clamp(0, LEVELS) - low.zero
    exact = copy.deepcopy(plain).double()
    exact.weight.data = low.whole.double() * low.weight_scale.double().view(-1, *(1,) * (plain.weight.ndim - 1))
    wanted = exact(told.double() * low.scale).float()
    with torch.no_grad():
        torch.testing.assert_close(low(x), wanted, rtol=1e-5, atol=1e-5)
        low.packed = None
        torch.testing.assert_close(low(x), wanted, rtol=1e-5, atol=1e-5)


def test_eight_bits_are_near(layer):
    plain, x = layer
    with torch.no_grad():
        off = [
            float((LowBit(plain, float(x.min()), float(x.max()), bits)(x) - plain(x)).norm() / plain(x).norm())
            for bits in (8, 4)
        ]
    assert off[0] < 0.02 < off[1] < 0.2


def test_a_sample_is_the_same_in_any_company(layer):
    plain, x = layer
    low = LowBit(plain, -2.0, 5.0)
    with torch.no_grad():
        torch.testing.assert_close(low(x), torch.cat([low(one) for one in x.split(1)]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("ends", [(-1.0, 3.0), (0.5, 2.0), (-3.0, -1.0), (0.0, 0.0)])
def test_nothing_is_told_as_nothing(layer, ends):
    """What is padded is 0, and has to stay so."""
    plain, x = layer
    scale, zero = grid(*ends)
    assert 0 <= zero <= LEVELS
    assert scale > 0
    with torch.no_grad():
        out = LowBit(plain, *ends)(torch.zeros_like(x))
        torch.testing.assert_close(out, plain(torch.zeros_like(x)))


def test_ends_leave_out_what_is_rare():
    """One number in ten thousand, a hundred times as large as the others, is not worth their precision."""
    values = torch.randn(3, 10_000, generator=torch.Generator().manual_seed(0))
    assert best_ends(values).abs().max() > 2
    values[:, 0] = 8.0
    low, high = best_ends(values).tolist()
    assert high < 8
    scale, zero = grid(low, high)
    wide, around = grid(float(values.min()), 8.0)
    error, plain = (
        float((torch.fake_quantize_per_tensor_affine(values, s, z, 0, LEVELS) - values).square().mean())
        for s, z in ((scale, zero), (wide, around))
    )
    assert error < plain


NETWORKS = {"unet": UNet(width=8, heads=2), "transformer": Transformer(heads=2, width=16)}


@pytest.fixture(scope="module", params=NETWORKS, ids=str)
def module(request):
    torch.manual_seed(0)
    module = ScoreModule(NETWORKS[request.param], shape=(24, 2))
    module.score.codec.fit([torch.randn(200, 24, 2).cumsum(1)])
    for parameter in module.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    module.eval()
    module.score.calibration = input_ranges(module.score, teach(module.score, Sampling(num_samples=32)))
    return module


def draw(module):
    sampling = Sampling(num_samples=6, num_steps=12, batch_size=6)
    return torch.cat([module.draw(unit, sampling) for unit in sampling.units()])


@torch.no_grad()
def test_a_network_in_integers_draws_nearly_the_same_and_is_itself_again(module):
    plain = draw(module)
    found = {}
    for precision in ("w8a8", "w4a8"):
        with arithmetic(module, precision):
            assert any(isinstance(layer, LowBit) for layer in module.modules())
            found[precision] = float((draw(module) - plain).norm() / plain.norm())
    assert 0 < found["w8a8"] < 0.05
    assert found["w8a8"] < found["w4a8"] < 0.5
    assert not any(isinstance(layer, LowBit) for layer in module.modules())
    assert torch.equal(draw(module), plain)


def test_layers_that_see_features_have_ends_and_those_of_time_have_none(module):
    known = {name.removeprefix(RANGE) for name in module.score.calibration}
    assert known < quantizable(module.score.network).keys()
    assert not any("modulat" in name for name in known)
    assert len(known) >= 4


def test_without_ranges_it_says_what_to_do(module):
    message = r"whose layers' ranges are known, got none: run .* calibrate"
    with pytest.raises(ValueError, match=message), in_low_bits(module.score.network, {}):
        pass
    with pytest.raises(ValueError, match="expected weights of 4 or 8 bits, got 3"):
        Quantize(3)  # pyright: ignore[reportArgumentType]


def test_a_layer_that_fails_leaves_the_network_as_it_was(module):
    ranges = dict(module.score.calibration)
    ranges[next(reversed(ranges))] = torch.zeros(3)
    with pytest.raises(ValueError, match="too many values"), in_low_bits(module.score.network, ranges):
        pass
    assert not any(isinstance(layer, LowBit) for layer in module.modules())


@pytest.mark.parametrize("cached", [False, True])
def test_predict_takes_it_as_a_callback_with_a_cache_beside_it(module, cached):
    from lightning.pytorch import Trainer

    module.sampling = Sampling(num_samples=6, num_steps=12, batch_size=6)
    plain = draw(module)
    caches = [CacheCallback(Wiener(tolerance=0.2))] if cached else []
    quiet = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(callbacks=[Quantize(), *caches], **quiet)
    drawn = torch.cat(trainer.predict(module))  # pyright: ignore
    if cached:
        assert caches[0].report()["network_calls"] < 12
    else:
        with arithmetic(module, "w8a8"), torch.no_grad():
            torch.testing.assert_close(drawn, draw(module))
        assert Quantize(4).identity(module.sampling) != Quantize().identity(module.sampling)
    assert 0 < float((drawn - plain).norm() / plain.norm()) < 0.3
    assert not any(isinstance(layer, LowBit) for layer in module.modules())


def test_presets_name_it(tmp_path):
    assert read_plugged("w8a8") == (None, "w8a8")
    assert read_plugged("w4a8") == (None, "w4a8")
    both = as_yaml(Contender("both", "cache", Sampling(), read_preset("wiener"), "w4a8"), ["found"])
    (tmp_path / "both.yaml").write_text(both)
    policy, precision = read_plugged(tmp_path / "both.yaml")
    assert policy == read_preset("wiener")
    assert precision == "w4a8"
    alone = as_yaml(Contender("alone", "solver", Sampling(num_steps=8), None, "w8a8"), [])
    assert "class_path: Quantize" in alone
    assert "precision" not in alone
    with pytest.raises(ValueError, match="expected one cache and nothing else, got w4a8"):
        read_preset(tmp_path / "both.yaml")


def test_what_is_not_on_a_cpu_is_worked_out_otherwise(layer):
    assert not has_kernels(torch.zeros(1, device="meta"))
    plain, x = layer
    low = LowBit(plain, -2.0, 5.0)
    assert count_flops(low, x) == count_flops(plain, x) > 0
    low.packed = None
    with torch.no_grad():
        assert torch.equal(low(x), low._simulated(x))


def test_it_can_be_copied_and_takes_other_precisions(layer):
    plain, x = layer
    low = LowBit(plain, -2.0, 5.0)
    with torch.no_grad():
        assert torch.equal(copy.deepcopy(low)(x), low(x))
        wide = LowBit(copy.deepcopy(plain).double(), -2.0, 5.0)
        torch.testing.assert_close(wide(x.double()), low(x).double(), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(low(x.bfloat16()), low(x.bfloat16().float()))


@pytest.mark.parametrize("count", [5, 17, 33])
def test_any_number_of_samples_may_be_looked_at(module, count, monkeypatch):
    """In chunks of sixteen, the last of which may hold one."""
    monkeypatch.setattr(unet, "CPU_BYTES", 4 * 24 * 8 * 16)
    score = module.score
    tokens = torch.randn(4, count, *score.noise_scale.shape)
    paths = Paths(torch.tensor([1.0, 0.6, 0.3, 0.1], dtype=torch.float64), tokens, tokens, NOTHING)
    assert input_ranges(score, paths).keys() == score.calibration.keys()


@torch.no_grad()
def test_every_policy_goes_with_it(module):
    sampling = Sampling(num_samples=3, num_steps=60)
    policies = [E2CRF(preset="paper", reuse="kv"), E2CRF(preset="paper"), ToMe()]
    if isinstance(module.score.network, UNetBackbone):
        policies = [E2CRF(), DeepCache()]
    for policy in policies:
        found = []
        for precision in (None, "w8a8"):
            with arithmetic(module, precision):
                score = CachedScore(module.score, policy, sampling.num_calls)
                for unit in sampling.units():
                    assert module.draw(unit, sampling, score).isfinite().all()
                found.append(score.ledger.totals()["flops_fraction"])
        assert found[1] == pytest.approx(found[0], abs=0.05)


def test_what_cannot_be_in_integers_says_so(module):
    with arithmetic(module, "w8a8"), pytest.raises(ValueError, match="not in integers yet"):
        in_low_bits(module.score.network, module.score.calibration).__enter__()
    recurrent = ScoreModule(LSTM(width=8, layers=1), shape=(24, 2))
    with pytest.raises(ValueError, match="such as UNet, got LSTM"), in_low_bits(recurrent.score.network, {}):
        pass


def test_a_model_of_ones_own_takes_the_preset_once_it_is_calibrated(tmp_path):
    x = torch.randn(64, 16, 1).cumsum(1).numpy()
    model = lf.fit(x, network=UNet(width=8, heads=2), max_steps=3, folder=tmp_path / "run", enable_progress_bar=False)
    with pytest.raises(ValueError, match="run `python -m lightning_freqdiff calibrate"):
        model.sample(2, num_steps=4, cache="w8a8", enable_progress_bar=False)
    model.module.score.calibration = input_ranges(
        model.module.score, teach(model.module.score, Sampling(num_samples=32))
    )
    plain, low = (
        model.sample(4, num_steps=4, cache=cache, enable_progress_bar=False, accelerator="cpu")
        for cache in (None, "w8a8")
    )
    assert 0 < np.abs(low - plain).max() < 0.2 * np.abs(plain).max()
    few = {"num_samples": 4, "num_steps": 6, "solvers": False, "rounds": 1}
    rows = lf.compare(model, ["w8a8"], output=tmp_path / "compared", **few)
    assert [row["name"] for row in rows] == ["uncached", "w8a8"]
    assert 0 < rows[1]["relative_l2"] < 0.2
    with pytest.raises(ValueError, match="expected `precision` as one of 32-true, bf16-mixed, got 'w8a8'"):
        lf.compare(model, ["wiener"], precision="w8a8", output=tmp_path / "wide", **few)
