import pytest
import torch
from oracle import GaussianScore
from torch import nn

from lightning_freqdiff.condition import NOTHING, Condition, ConditionSizes
from lightning_freqdiff.diffusion.losses import (
    linear_loss,
    score_matching_loss,
    stratified_times,
    time_quantiles,
    weight,
)
from lightning_freqdiff.diffusion.score import Score
from lightning_freqdiff.diffusion.sde import T_MIN, VE, VP, SubVP
from lightning_freqdiff.domains import Representation
from lightning_freqdiff.networks import Transformer, UNet

LAYOUT = Representation("frequency", 9, 2)


def make(parametrization="eps", layout=LAYOUT) -> Score:
    torch.manual_seed(0)
    score = Score(Transformer(layers=1, heads=2, width=8, feedforward=8), VP(), parametrization, layout)
    nn.init.normal_(score.network.out.weight)
    return score.double()


def draw(score, count=16):
    z0, xi = torch.randn(2, count, 5, 4, dtype=torch.float64).unbind()
    return z0 * (score.noise_scale > 0), xi, torch.rand(count, dtype=torch.float64) * 0.98 + 0.01


def score_error(score, z0, xi, t):
    c = score.coefficients(t)
    live = c.sigma > 0
    truth = torch.where(live, -xi / torch.where(live, c.sigma, 1.0), 0.0)
    return (score(c.alpha * z0 + c.sigma * xi, t) - truth), c, live


@pytest.mark.parametrize("parametrization", ["eps", "x0", "score", "wiener"])
@pytest.mark.parametrize("weighting", ["edm", "eps", "likelihood", "fd"])
def test_each_weighting_is_the_weighted_score_error(parametrization, weighting):
    """The loss on raw outputs against the text's definition: lambda times the squared error of the score."""
    score = make(parametrization)
    z0, xi, t = draw(score)
    error, c, live = score_error(score, z0, xi, t)
    count = live[0].sum() * len(z0)
    variance = c.sigma.square()
    match weighting:
        case "edm":
            # Karras et al., arXiv 2206.00364, section 5: the denoised signal's error times (1 + s²) / s², s = σ/α.
            s, denoised = c.sigma / c.alpha, c.sigma.square() / c.alpha * error
            expected = torch.where(live, (1 + s.square()) / s.square() * denoised.square(), 0.0).sum() / count
        case "eps":
            expected = (variance * error.square()).sum() / count
        case "likelihood":
            g = VP().diffusion(t).reshape(-1, 1, 1) * score.noise_scale
            expected = (g.square() * error.square()).sum() / count
        case _:
            trace = torch.where(live, 1 / torch.where(live, variance, 1.0), 0.0).sum((1, 2))
            expected = (error.square().sum((1, 2)) / trace).mean()
    value = score_matching_loss(score, z0, xi, t, weighting)
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-9)


def test_unit_weighting_is_one_formula_for_every_parametrization():
    # For the wiener form it is written as a plain square; the weight in noise units must say the same.
    score = make("wiener")
    z0, xi, t = draw(score)
    error, c, _ = score_error(score, z0, xi, t)
    squared = (c.sigma * error).square() * weight(score, "unit", t, c)
    expected = squared.sum() / ((score.noise_scale > 0).sum() * len(z0))
    torch.testing.assert_close(score_matching_loss(score, z0, xi, t, "unit"), expected)


def test_frequency_loss_equals_the_time_loss_of_the_induced_score():
    """E2-CRF, proposition 3.2 (A.16): ||s~(Ux) - Lambda^2 s~_{t|0}||^2 on the half-spectrum, each mirrored frequency
    counted twice, equals ||U* s~(Ux) - s_{t|0}||^2 in time. U* is the unitary transform's adjoint.
    """
    n, m, t = 9, 2, 0.4
    layout, sde = Representation("frequency", n, m), VP()
    score = make("wiener", layout)
    x, w = torch.randn(2, 6, n, m, dtype=torch.float64).unbind()
    time = torch.tensor(t, dtype=torch.float64)
    alpha, sigma = sde.alpha(time), sde.sigma(time)
    xt = alpha * x + sigma * w
    target_time = -w / sigma  # score of the perturbation kernel in time
    network = score(layout.encode(xt), time)  # any function of the noisy spectrum will do for s~
    induced = layout.decode(network)
    time_loss = (induced - target_time).square().sum((1, 2))
    # In frequency: s~_{t|0} = -w~ / (sigma Lambda^2), so Lambda^2 s~_{t|0} = -w~ / sigma.
    target_frequency = -layout.encode(w) / sigma
    mirrored = torch.full((layout.tokens, 1), 2.0, dtype=torch.float64)
    mirrored[0] = 1
    frequency_loss = (mirrored * (network - target_frequency).square()).sum((1, 2))
    torch.testing.assert_close(time_loss, frequency_loss)


@pytest.mark.parametrize("count", [1, 2, 64])
@pytest.mark.parametrize("sde", [VP(), SubVP(), VE()], ids=lambda s: type(s).__name__)
def test_times_are_stratified(count, sde):
    for density in ("uniform", "lognormal"):
        quantiles = time_quantiles(sde, density)
        t = stratified_times(quantiles, count).sort().values
        edges = quantiles[torch.linspace(0, len(quantiles) - 1, count + 1).round().long()]
        assert ((t >= edges[:-1] - 1e-3) & (t <= edges[1:] + 1e-3)).all()
        assert t.min() >= T_MIN
        assert t.max() <= 1


def parts_and_offsets(count: int, draws: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the part of each drawn time and where in it the time lies, in [0, 1], both ``(draws, count)``."""
    quantiles = time_quantiles(VP(), "uniform")
    generator = torch.Generator().manual_seed(0)
    t = torch.stack([stratified_times(quantiles, count, generator) for _ in range(draws)]).double()
    place = (t - T_MIN) / (1 - T_MIN) * count  # these quantiles are linear
    part = place.long().clamp(max=count - 1)
    return part, place - part


def test_a_time_is_uniform_within_its_part_and_knows_nothing_of_the_others():
    part, offset = parts_and_offsets(4, 5000)
    offset = torch.empty_like(offset).scatter_(1, part, offset)  # by part
    deciles = torch.stack([column.histc(10, 0, 1) for column in offset.T]) / len(offset)
    assert (deciles - 0.1).abs().max() < 4.5 * (0.1 * 0.9 / len(offset)) ** 0.5
    assert (offset.T.corrcoef() - torch.eye(4)).abs().max() < 4.5 / len(offset) ** 0.5


def test_a_place_in_the_batch_meets_every_part_equally_often():
    part, _ = parts_and_offsets(4, 5000)
    assert torch.equal(part.sort(1).values, torch.arange(4).expand(len(part), 4))
    share = torch.stack([column.bincount(minlength=4) for column in part.T]) / len(part)
    assert (share - 0.25).abs().max() < 4.5 * (0.25 * 0.75 / len(part)) ** 0.5


def test_times_come_from_the_generator_alone():
    quantiles = time_quantiles(VP(), "uniform")
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = stratified_times(quantiles, 8, torch.Generator().manual_seed(1))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(stratified_times(quantiles, 8, torch.Generator().manual_seed(1)), first)
    assert not torch.equal(stratified_times(quantiles, 8, torch.Generator().manual_seed(3)), first)


def test_lognormal_times_are_lognormal():
    t = stratified_times(time_quantiles(VP(), "lognormal"), 100_000)
    log_ratio = -VP().log_snr(t.double())
    # Truncated to the times there are, which costs next to nothing.
    assert log_ratio.mean() == pytest.approx(-0.2, abs=0.02)
    assert log_ratio.std() == pytest.approx(1.8, abs=0.03)
    assert (log_ratio > 2.5).double().mean() == pytest.approx(0.067, abs=0.005)
    with pytest.raises(ValueError, match=r"`model\.times`"):
        time_quantiles(VP(), "cosine")


def test_masked_and_constant_coordinates_do_not_count():
    score = make("wiener")
    score.codec.variance[2] = 0
    z0, xi, t = draw(score)
    z0[:, 2] = 0
    c = score.coefficients(t)
    target, unit = score.target(z0, xi, c)
    assert target[:, 2].eq(0).all()
    assert unit[:, 2].eq(0).all()
    live = (score.noise_scale > 0) & (score.codec.active > 0)
    zt = c.alpha * z0 + c.sigma * xi
    raw = score.network(zt / c.total, t)
    expected = (raw - target)[:, live].square().mean()
    torch.testing.assert_close(score_matching_loss(score, z0, xi, t, "unit"), expected)


def test_unknown_weighting_names_its_setting():
    score = make()
    with pytest.raises(ValueError, match=r"`model\.weighting`"):
        score_matching_loss(score, *draw(score), weighting="snr")


@pytest.mark.parametrize("weighting", ["unit", "edm", "eps", "likelihood", "fd"])
def test_the_linear_models_loss_is_that_of_a_network_which_adds_nothing(weighting):
    """By the Wiener form with a raw output of zero; no other form has another value."""
    score = make("wiener")
    nn.init.zeros_(score.network.out.weight)
    nn.init.zeros_(score.network.out.bias)
    z0, xi, t = draw(score)
    expected = score_matching_loss(score, z0, xi, t, weighting)
    torch.testing.assert_close(linear_loss(score, z0, xi, t, weighting), expected)
    for parametrization in ("eps", "x0", "score"):
        torch.testing.assert_close(linear_loss(make(parametrization), z0, xi, t, weighting), expected)


@pytest.mark.parametrize("observed", [False, True])
def test_the_linear_models_loss_does_not_depend_on_what_the_network_is_asked_for(observed):
    """Of single coordinates, whose filter is the same; and with values that are known."""
    torch.manual_seed(0)
    network, layout = UNet(width=8, heads=2), Representation("frequency", 9, 2)
    x, t = torch.randn(400, 9, 2).cumsum(1), torch.rand(400)
    mask = (torch.rand(400, 9, 2) < 0.4).float()
    known = Condition(observed=x, mask=mask) if observed else NOTHING
    found = []
    for form in ("wiener", "steps"):
        score = Score(network, VP(), form, layout, ConditionSizes(observed=observed), 0.0)
        score.codec.fit([x])
        z0 = score.codec.encode(x)
        xi = torch.randn(z0.shape, generator=torch.Generator().manual_seed(1)) * (score.noise_scale > 0)
        found.append(linear_loss(score, z0, xi, t, "eps", known))
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-4)


def test_of_all_coordinates_together_the_linear_models_loss_is_that_of_the_exact_gaussian_score():
    torch.manual_seed(0)
    score = Score(UNet(width=8, heads=2), VP(), "steps", LAYOUT, colour=0.0, covariance="joint")
    x = torch.randn(2000, 9, 2).cumsum(1)
    score.codec.fit([x])
    codec, live = score.codec, score.noise_scale > 0
    assert codec.directions is not None
    basis = codec.directions.basis.double() * codec.noise_scale.double().view(-1, 1)
    oracle = GaussianScore(VP(), score.noise_scale, basis * codec.directions.power.double() @ basis.T)
    z0, t = codec.encode(x), torch.tensor(0.3)
    xi = torch.randn_like(z0) * live
    c = score.coefficients(t)
    error = (-c.sigma * oracle(c.alpha * z0 + c.sigma * xi, t) - xi)[:, live]
    found = linear_loss(score, z0, xi, t.expand(len(x)), "eps")
    torch.testing.assert_close(found, error.square().mean().float(), rtol=1e-3, atol=1e-5)
