import numpy as np
import pytest
import torch

from lightning_freqdiff.caching import L2C, L2P, CachedScore, SVDCache
from lightning_freqdiff.caching.local_error import local_error
from lightning_freqdiff.caching.step_cache import run_network
from lightning_freqdiff.checkpoint import calibration_path, read_calibration, weights_hash, write_calibration
from lightning_freqdiff.condition import NOTHING
from lightning_freqdiff.diffusion import ScoreFunction
from lightning_freqdiff.evaluation import fitting, stretches, teacher
from lightning_freqdiff.evaluation.calibrate import Watcher, calibrate
from lightning_freqdiff.evaluation.features import best_ridge
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.sampling.loop import Sampling, WorkUnit, sample
from lightning_freqdiff.sampling.solvers import Fitted

SAMPLING = Sampling(num_samples=6, num_steps=60, batch_size=3)


@pytest.fixture(autouse=True)
def _few_paths(monkeypatch):
    """Let the teacher draw a few samples: what it learns is tested beside this."""
    monkeypatch.setattr(teacher, "SAMPLES", 6)
    monkeypatch.setattr(teacher, "LEAST", 6)
    monkeypatch.setattr(stretches, "SAMPLES", 6)


def test_what_is_fitted_fits(model):
    fitted, fits = calibrate(model, SAMPLING)
    assert fitted["teacache.polynomial"].shape == (5,)
    assert 0 < fits["teacache"] <= 1
    assert fitted["wiener.rate"].min() >= 0
    times, damage = fitted["wiener.damage"]
    assert times.diff().min() > 0
    assert damage.min() > 0
    assert fits["grid_damage_4_steps"] > fits["grid_damage_10_steps"] > 0
    model.score.calibration = fitted
    assert len(model.times(Sampling(num_steps=7, grid="tuned"))) == 8
    assert fits["fitted_distance_4_steps"] > fits["fitted_distance_10_steps"] > 0
    assert all(len(model.times(Sampling(num_steps=n, solver=Fitted()))) == n + 1 for n in fitting.COUNTS)
    # A block's linear map comes closer to the block than leaving it out.
    network = model.score.network
    h = network.embed(torch.randn(4, *model.score.noise_scale.shape), torch.tensor(0.5)).features
    with torch.no_grad():
        for i, block in enumerate(network.layers):
            out = block(h)
            mapped = torch.nn.functional.linear(h, fitted[f"fastcache.weight.{i}"], fitted[f"fastcache.bias.{i}"])
            assert (out - mapped).square().mean() < (out - h).square().mean()
            h = out


def test_watching_changes_no_sample(model):
    with torch.no_grad():
        watched, plain = (
            sample(s, model.sde, model.score.codec, WorkUnit(0, 0, 3), Sampling(num_steps=12))
            for s in (Watcher(model.score, None), model.score)
        )
    assert torch.equal(watched, plain)


def test_the_file_belongs_to_the_weights(model, checkpoint, tmp_path):
    copy = tmp_path / "best.ckpt"
    copy.write_bytes(checkpoint.read_bytes())
    path = calibration_path(copy)
    assert ScoreModule.load_from_checkpoint(copy).score.calibration == {}
    write_calibration(path, {"wiener.rate": torch.ones(51)}, weights_hash(model))
    assert ScoreModule.load_from_checkpoint(copy).score.calibration["wiener.rate"].tolist() == [1.0] * 51
    write_calibration(path, {"wiener.rate": torch.ones(51)}, "other")
    with pytest.warns(UserWarning, match="other weights"):
        assert ScoreModule.load_from_checkpoint(copy).score.calibration == {}
    path.write_bytes(path.read_bytes()[:40])
    with pytest.warns(UserWarning, match="cannot be read"):
        assert read_calibration(path, "other") == {}
    np.savez(path, weights=np.array([{"a": 1}], dtype=object))
    with pytest.warns(UserWarning, match="cannot be read"):  # pickled objects are not loaded
        assert read_calibration(path, "other") == {}


def test_a_disk_that_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(OSError, match="`output`"):
        write_calibration(tmp_path / "none" / "x.npz", {}, "w")
    assert not list(tmp_path.iterdir())


def test_the_local_error_is_that_of_the_series(model):
    """Parseval: the norm of a change of tokens is that of the change of the series."""
    z = torch.randn(3, *model.score.noise_scale.shape) * (model.score.noise_scale > 0)
    change = model.score.codec.decode(z) - model.score.codec.decode(torch.zeros_like(z))
    measured = local_error(model.score, z)
    ratio = measured / change.double().flatten(1).norm(dim=1)
    torch.testing.assert_close(ratio, ratio[:1].expand(3), rtol=1e-4, atol=0)
    s = model.score.codec
    size = (s.mean.square() + (s.scale * s.active).square()).sqrt()
    typical = model.layout.decode(size.unsqueeze(0)).norm()
    assert float(ratio[0] * typical) == pytest.approx(1.0, rel=0.02)


def test_any_network_can_be_calibrated():
    from lightning_freqdiff.networks import MLP

    module = ScoreModule(MLP(layers=3, width=8), shape=(16, 1))
    fitted, _ = calibrate(module.eval(), SAMPLING)
    maps = [name for name in fitted if name.startswith("fastcache.weight")]
    assert maps == [f"fastcache.weight.{i}" for i in range(3)]


def test_what_caches_learn_of_features(model):
    """Against the features of a trajectory that is run again, one step after the other."""
    fitted, fits = calibrate(model, Sampling(num_samples=3, num_steps=60, batch_size=2))
    assert 0 < fits["l2p"] < 1
    score, rows, sizes = model.score, [], []

    class Seen(ScoreFunction):
        def __call__(self, z, t, condition=NOTHING):
            c = score.coefficients(t)
            fresh = run_network(score, z, t, c, condition)
            rows.append(fresh.features)
            sizes.append((fresh.features - fresh.h0).norm(dim=-1))
            return score.from_eps(fresh.eps, c)

    times = {}
    for unit in Sampling(num_samples=3, num_steps=60, batch_size=2).units():
        rows, sizes = [], []
        with torch.no_grad():
            sample(Seen(), model.sde, score.codec, unit, Sampling(num_steps=60))
        times[unit.first] = torch.stack(rows, 1), torch.stack(sizes, 1)
    features = torch.cat([found for found, _ in times.values()]).double()
    flat = features.flatten(2)
    products = (flat @ flat.mT).mean(0).flip(0, 1)
    torch.testing.assert_close(fitted["l2p.gram.features"], products, rtol=1e-4, atol=1e-4)
    moments = torch.einsum("bsnd,bsne->de", features, features)
    torch.testing.assert_close(fitted["moments.features"], moments, rtol=1e-4, atol=1e-4)
    size = torch.cat([found for _, found in times.values()]).double()
    ratios = (size[:, 1:] / size[:, :-1]).mean((0, 2)).log()
    rise = fitted["magcache.log_magnitude"]
    at = np.interp(model.times(Sampling(num_steps=60))[:-1].numpy(), np.linspace(0, 1, len(rise)), rise.numpy())
    assert at[-1] - at[1] == pytest.approx(float(ratios[1:].sum()), rel=0.05)


def test_a_penalty_is_chosen_on_samples_left_out():
    random = np.random.default_rng(0)
    smooth = np.cumsum(np.cumsum(random.normal(size=(8, 40, 60)), axis=1), axis=1)
    rough = random.normal(size=(8, 40, 60))
    ridges, explained = zip(*(best_ridge(np.einsum("std,sud->stu", x, x)) for x in (smooth, rough)), strict=True)
    assert ridges[0] < ridges[1]
    assert explained[0] > 0.5 > explained[1]


@pytest.mark.parametrize("policy", [L2C(), L2P(), SVDCache()], ids=["l2c", "l2p", "svdcache"])
def test_what_cannot_do_without_a_calibration_says_so(model, policy):
    model.score.calibration = {}
    cached = CachedScore(model.score, policy, 12)
    with pytest.raises(ValueError, match=r"expected a calibration of this checkpoint.*: run calibrate"):
        sample(cached, model.sde, model.score.codec, WorkUnit(0, 0, 2), Sampling(num_steps=12))
