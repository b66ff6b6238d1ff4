"""Missing values as they are: a draw of what may have been there stands in the gaps, and no loss is taken of it."""

# A part that is not there fails its test.
# pyright: reportOptionalMemberAccess=false, reportOptionalSubscript=false, reportOptionalOperand=false
# pyright: reportOperatorIssue=false

import numpy as np
import pytest
import torch
from random_networks import told_score

from lightning_freqdiff.data import ArrayData
from lightning_freqdiff.data.series import filling
from lightning_freqdiff.data.series.filling import GaussianFill
from lightning_freqdiff.data.series.missing import interpolate
from lightning_freqdiff.diffusion.losses import linear_loss, observed_error, score_matching_loss
from lightning_freqdiff.networks import UNet

N, M = 10, 1


def decaying(rate: float) -> torch.Tensor:
    """Covariance of an autoregression."""
    steps = torch.arange(N)
    return 2 * rate ** (steps.unsqueeze(0) - steps.unsqueeze(1)).abs().double()


COVARIANCE = decaying(0.8)
MEAN = torch.linspace(-1, 3, N).double()


def gapped(count: int, share=0.4, seed=0, covariance=COVARIANCE) -> tuple[torch.Tensor, torch.Tensor]:
    """An autoregression whose truth is known, and the same with gaps by chance."""
    generator = torch.Generator().manual_seed(seed)
    root = torch.linalg.cholesky(covariance)
    x = (MEAN + torch.randn(count, N, generator=generator).double() @ root.T).float().unsqueeze(2)
    return x, torch.where(torch.rand(x.shape, generator=generator) < share, torch.nan, x)


@pytest.fixture(scope="module")
def fill():
    _, gaps = gapped(10000)
    return GaussianFill(lambda: gaps.split(1000), 0, "it")


def test_statistics_are_those_of_the_truth_though_values_are_missing(fill):
    torch.testing.assert_close(fill.mean, MEAN, atol=0.07, rtol=0)
    torch.testing.assert_close(fill.covariance, COVARIANCE, atol=0.15, rtol=0)


def test_filled_series_have_the_moments_of_whole_ones_and_interpolated_ones_do_not(fill):
    truth, gaps = gapped(8000, seed=1)
    filled = fill(gaps, np.arange(len(gaps)))
    seen = ~gaps.isnan()
    assert torch.equal(filled[seen], truth[seen])
    assert filled.isfinite().all()
    rows = filled.squeeze(2).double()
    torch.testing.assert_close(rows.T.cov(), COVARIANCE, atol=0.15, rtol=0)
    some = ~seen.all(1).squeeze() & seen.any(1).squeeze()
    lines = np.stack([interpolate(one.numpy(), "it", ("a",)) for one in gaps[some]])
    assert lines[:, N // 2].var() < 0.95 * 2 < rows[:, N // 2].var() < 1.07 * 2


def walks(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Walks that keep near where they start, and the same with gaps by chance."""
    generator = torch.Generator().manual_seed(3)
    start, steps = (torch.randn(count, n, 1, generator=generator) for n in (1, 24))
    x = start + 0.03 * steps.cumsum(1)
    return x, torch.where(torch.rand(x.shape, generator=generator) < 0.3, torch.nan, x)


def test_filled_walks_are_as_smooth_as_whole_ones():
    """A covariance made pair by pair has steps five times as large in it."""
    truth, gaps = walks(400)
    fill = GaussianFill(lambda: gaps.split(100), 0, "it")
    rough = fill(gaps, np.arange(400)).diff(dim=1)[gaps.diff(dim=1).isnan()]
    assert float(rough.std()) == pytest.approx(float(truth.diff(dim=1).std()), rel=0.05)
    torch.testing.assert_close(fill.mean, truth.squeeze(2).double().mean(0), atol=0.01, rtol=0)
    few = GaussianFill(lambda: gaps[:40].split(100), 0, "it")  # too few for the likeliest of all covariances
    assert few(gaps, np.arange(400)).isfinite().all()


def test_where_nothing_is_missing_the_gaussian_is_that_of_the_series():
    x = walks(200)[0]
    fill = GaussianFill(lambda: x.split(60), 0, "it")
    torch.testing.assert_close(fill.covariance, x.squeeze(2).double().T.cov(correction=0), atol=1e-5, rtol=1e-4)


def test_series_of_which_few_take_part_are_taken_from_all_over(monkeypatch):
    taken, x = [], walks(200)[1] + torch.arange(200).view(200, 1, 1)
    monkeypatch.setattr(filling, "WORK", 0)
    monkeypatch.setattr(GaussianFill, "_settle", lambda self, series: taken.append(series.nanmean((1, 2))))
    GaussianFill(lambda: x.split(33), 0, "it")
    torch.testing.assert_close(taken[0], torch.arange(0.0, 200, 2).double(), atol=4.0, rtol=0)


def test_prices_are_filled_in_their_logarithms():
    """They are positive, and what is learnt has the moments of whole series."""
    truth, gaps = (x.repeat(1, 1, 2) for x in gapped(8000, seed=1))
    truth[..., 1], gaps[..., 1] = (2 * x[..., 1] for x in (truth, gaps))
    prices = torch.stack([gaps[..., 0], gaps[..., 1].exp()], -1)
    fill = GaussianFill(lambda: prices.split(1000), 0, "it")
    assert fill.logarithm.channels == (1,)
    filled = fill(prices, np.arange(len(prices)))
    assert torch.equal(filled[~gaps.isnan()], prices[~gaps.isnan()])
    assert filled[..., 1].min() > 0
    logs = filled[..., 1].log().double() / 2
    torch.testing.assert_close(logs.T.cov(), COVARIANCE, atol=0.15, rtol=0)
    torch.testing.assert_close(logs.mean(0), MEAN, atol=0.07, rtol=0)
    prices[5, 5, 1] = 0.0
    assert GaussianFill(lambda: prices.split(1000), 0, "it").logarithm.channels == ()


def test_a_gap_is_filled_by_draws_of_the_conditional_gaussian(fill):
    row = MEAN.float().clone() + 1
    row[3:6] = torch.nan
    rows = row.view(1, N, 1).repeat(4000, 1, 1)
    drawn = fill(rows, np.arange(4000)).squeeze(2).double()[:, 3:6]
    here, there = torch.arange(3, 6), torch.tensor([0, 1, 2, 6, 7, 8, 9])
    c = fill.covariance
    gain = c[here][:, there] @ torch.linalg.inv(c[there][:, there])
    torch.testing.assert_close(
        drawn.mean(0), fill.mean[here] + gain @ (row[there].double() - fill.mean[there]), atol=0.08, rtol=0
    )
    torch.testing.assert_close(drawn.T.cov(), c[here][:, here] - gain @ c[there][:, here], atol=0.08, rtol=0)


def test_the_best_linear_denoiser_of_the_truth_is_the_best_under_gaps():
    """At the true denoiser, the gradient of the masked loss is 0 where gaps are filled by draws, and not by lines."""
    covariance = decaying(0.3)
    truth, gaps = gapped(20000, share=0.5, seed=2, covariance=covariance)
    fill = GaussianFill(lambda: gaps.split(1000), 0, "it")
    seen = (~gaps.isnan()).squeeze(2).double()
    sigma = 1.0
    denoiser = covariance @ torch.linalg.inv(covariance + sigma**2 * torch.eye(N).double())
    steps = np.arange(N)
    lines = np.stack(
        [
            np.interp(steps, steps[k], r[k]) if (k := ~np.isnan(r)).any() else MEAN.numpy()
            for r in gaps.squeeze(2).numpy()
        ]
    )

    def gradient(filled):
        x = torch.as_tensor(filled).double().view(-1, N) - MEAN
        z = x + sigma * torch.randn(x.shape, generator=torch.Generator().manual_seed(3)).double()
        return float(((seen * (z @ denoiser.T - x)).T @ z / len(z)).norm())

    whole, drawn, straight = gradient(truth), gradient(fill(gaps, np.arange(len(gaps)))), gradient(lines)
    assert drawn < 1.5 * whole  # which is chance
    assert straight > 3 * drawn


@pytest.mark.parametrize("domain", ["frequency", "time", "wavelet", "lapped"])
def test_the_loss_of_what_is_not_observed_is_not_taken(domain):
    score = told_score(UNet(width=8, heads=2), length=11, channels=2, domain=domain)
    error = torch.randn(3, *score.noise_scale.shape) * (score.noise_scale > 0)
    every = torch.ones(3, 11, 2)
    torch.testing.assert_close(observed_error(score.codec, error, every), error, atol=1e-5, rtol=1e-4)
    seen = (torch.rand(3, 11, 2) < 0.6).float()
    once = observed_error(score.codec, error, seen)
    elsewhere = score.codec.layout.encode(5 * torch.randn(3, 11, 2) * (1 - seen))
    unit = torch.where(score.noise_scale > 0, score.noise_scale * score.codec.scale, torch.inf)
    torch.testing.assert_close(
        observed_error(score.codec, error + elsewhere / unit, seen), once, atol=1e-4, rtol=1e-3
    )
    torch.testing.assert_close(observed_error(score.codec, once, seen), once, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("weighting", ["edm", "eps", "likelihood"])
def test_where_all_is_observed_it_is_the_plain_loss(weighting):
    score = told_score(UNet(width=8, heads=2), length=11)
    z0, t = torch.randn(4, *score.noise_scale.shape), torch.rand(4).clamp(min=0.05)
    given = score, z0, torch.randn_like(z0), t, weighting
    every = torch.ones(4, 11, 1)
    torch.testing.assert_close(
        score_matching_loss(*given, seen=every), score_matching_loss(*given), rtol=1e-3, atol=0
    )
    torch.testing.assert_close(linear_loss(*given, seen=every), linear_loss(*given), rtol=1e-3, atol=0)
    assert score_matching_loss(*given, seen=torch.zeros(4, 11, 1)) == 0


def test_a_data_set_with_gaps_says_what_was_seen():
    truth, gaps = gapped(200)
    data = ArrayData.of(gaps.numpy(), missing="mask", batch_size=16)
    assert data.train_series().isfinite().all()
    for batch in [*data.train_dataloader(), *data.val_dataloader()]:
        assert batch.series.isfinite().all()
        assert 0.4 < batch.seen.mean() < 0.8
        for series, seen in zip(batch.series, batch.seen, strict=True):
            at = (truth.squeeze(2) - series.squeeze(1)).abs().mul(seen.squeeze(1)).sum(1).argmin()
            assert torch.equal(~gaps[at].isnan(), seen > 0)
            assert torch.equal(series[seen > 0], truth[at][seen > 0])
    again = ArrayData.of(gaps.numpy(), missing="mask", batch_size=16)
    assert torch.equal(again.train_series(), data.train_series())


def test_windows_with_gaps_are_filled_as_they_are_fetched():
    long = np.sin(np.arange(2000) / 5) + np.random.default_rng(0).normal(size=2000) / 10
    long[np.random.default_rng(1).random(2000) < 0.3] = np.nan
    data = ArrayData.of(long, window=16, missing="mask", stride=3)
    rows = data._part("train")
    some = np.array([0, 5, 9])
    assert torch.equal(rows.__getitems__(some), rows.__getitems__(some))
    assert torch.equal(torch.cat([*data.train_batches(50)])[some], rows.__getitems__(some))
    assert rows.seen(some).mean() < 0.9
    whole = ArrayData.of(np.nan_to_num(long), window=16, stride=3)
    seen = rows.seen(some) > 0
    assert torch.equal(rows.__getitems__(some)[seen], whole._part("train").__getitems__(some)[seen])


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (np.where(np.arange(600) % 2, np.nan, np.zeros((20, 600))), "at most 512 numbers to fill gaps in, got 600"),
        (
            np.where(np.arange(8) == 3, np.nan, np.random.default_rng(0).normal(size=(20, 8))),
            "fewer at step 3 of channel 0",
        ),
        (np.where(np.arange(8) == 3, np.inf, np.zeros((20, 8))), "finite float32 numbers"),
    ],
)
def test_what_cannot_be_filled(values, says):
    with pytest.raises(ValueError, match=says):
        ArrayData.of(values + np.arange(20)[:, None], missing="mask").setup()
