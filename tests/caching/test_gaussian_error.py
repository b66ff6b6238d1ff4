"""On Gaussian data the exact answer is known: the error that the probes report against the error that is made."""

import torch
from torch import Tensor, nn

from lightning_freqdiff.caching import E2CRF, CachedScore
from lightning_freqdiff.condition import NOTHING
from lightning_freqdiff.diffusion.score import Score
from lightning_freqdiff.diffusion.sde import VP
from lightning_freqdiff.domains import Representation
from lightning_freqdiff.networks import Embedding
from lightning_freqdiff.networks.plain import PlainTransformer
from lightning_freqdiff.sampling.loop import Sampling, WorkUnit, sample

N = 32


class GaussianBlock(nn.Module):
    """Token mixing by the exact linear filter: features are (token, time, number of the token)."""

    def __init__(self, backbone) -> None:
        super().__init__()
        self.of = [backbone]

    def queries_keys_values(self, h: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        return h, torch.cat([h, h], dim=-1)

    def finish(self, h: Tensor, q: Tensor, kv: Tensor, context: Tensor | None) -> Tensor:
        v = kv[..., h.shape[-1] :]
        width = h.shape[-1] - 2
        number, t = h[..., -1].round().long(), h[0, 0, -2]
        rows = self.of[0].matrix(t).unflatten(0, (-1, width))[number]  # (B, S, F, K F)
        return torch.cat([torch.einsum("bsfd,bd->bsf", rows, v[..., :width].flatten(1)), h[..., width:]], dim=-1)

    def forward(self, h: Tensor, context: Tensor | None) -> Tensor:
        return self.finish(h, *self.queries_keys_values(h, context), context)


class GaussianBackbone(PlainTransformer):
    """The exact raw output for correlated Gaussian frequencies, open token by token like a transformer."""

    def __init__(self, covariance: Tensor, scale: Tensor) -> None:
        nn.Module.__init__(self)
        self.covariance, self.scale = covariance, scale.flatten()
        self.tokens, self.cpu_chunk = len(scale), 2**10
        self.layers = nn.ModuleList([GaussianBlock(self)])

    def matrix(self, t: Tensor) -> Tensor:
        """Unit-variance remainder of the Wiener filter as a matrix on the scaled input ``z / total``."""
        sde, live = VP(), self.scale > 0
        alpha, noise = sde.alpha(t), sde.sigma(t) * self.scale
        total = (alpha**2 * live + noise**2).sqrt()
        full = alpha**2 * self.covariance + torch.diag(noise**2 + (~live).float())
        xi = noise.unsqueeze(1) * torch.linalg.inv(full)
        linear = torch.diag(noise / total.where(live, torch.ones(())) ** 2)
        spread = torch.where(live, alpha / total.where(live, torch.ones(())), 1.0)
        return (linear - xi) / spread.unsqueeze(1) * total * live

    def embed(self, z: Tensor, t: Tensor, condition=None) -> Embedding:
        number = torch.arange(z.shape[1], dtype=z.dtype).view(1, -1, 1).expand(len(z), -1, 1)
        return Embedding(torch.cat([z, t.expand(*number.shape), number], dim=-1))

    def head(self, h: Tensor, context: Tensor | None = None) -> Tensor:
        return h[..., :-2]


def gaussian_score() -> Score:
    layout = Representation("frequency", N, 1)
    scale = layout.noise_scale()
    live = (scale.flatten() > 0).float()
    mix = torch.randn(len(live), len(live), generator=torch.Generator().manual_seed(0))
    covariance = 0.3 * torch.eye(len(live)) + 0.7 * mix @ mix.T / len(live)
    covariance = covariance / covariance.diag().sqrt().outer(covariance.diag().sqrt())
    covariance = covariance * live.outer(live)

    class Given:
        def build(self, codec, sizes=None):
            return GaussianBackbone(covariance, scale)

    return Score(Given(), VP(), "wiener", layout)


def test_the_probes_report_the_error_that_is_made():
    score = gaussian_score()
    made = []

    class Checked(CachedScore):
        def __call__(self, z, t, condition=NOTHING):
            value = super().__call__(z, t, condition)
            c = self.score.coefficients(t)
            truth = self.score(z, t)
            made.append(((value - truth) * c.sigma).square().mean((0, 1, 2)))
            return value

    settings = E2CRF(
        preset="paper", trigger="none", K_low=-1, probes=4, feedback="full", R=20, tau_warn=1e9, stale="wiener"
    )
    wrapped = Checked(score, settings, 200)
    sample(wrapped, VP(), score.codec, WorkUnit(0, 0, 256), Sampling(num_samples=256, num_steps=200))
    curves = wrapped.ledger.curves()
    reported = torch.tensor(curves["probe_error"]).square()
    exact = torch.stack(made)
    # A refresh recomputes all, so what it reveals is the error that was made up to the step before it, and one step's
    # growth (here at most 40 %, most of it on the tokens that were probes a step ago).
    refreshes = [i for i in range(40, 200) if i % 20 == 0]
    ratio = reported[refreshes] / exact[[i - 1 for i in refreshes]]
    assert ((ratio > 1) & (ratio < 1.4)).all(), ratio
    # Between refreshes a probe attends to the stale keys and values of the others, and misses the part of the error
    # that they carry: its report is a lower bound, of the right size, and tight near the data.
    tokens = N // 2 + 1
    steps = [i for i in range(25, 200) if i % 20 >= 5]
    ratio = reported[steps] * (tokens - 4) / tokens / exact[steps]
    assert ratio.min() > 0.3
    assert ratio.max() < 1.25
    assert (ratio[-20:] - 1).abs().mean() < 0.2
    assert exact.max() > 1e-5, "there was no error to report"


def test_the_wiener_remainder_of_independent_gaussians_is_zero_so_one_call_is_enough():
    layout = Representation("frequency", N, 1)
    live = (layout.noise_scale().flatten() > 0).float()

    class Given:
        def build(self, codec, sizes=None):
            return GaussianBackbone(torch.diag(live), layout.noise_scale())

    score = Score(Given(), VP(), "wiener", layout)
    wrapped = CachedScore(score, E2CRF(preset="naive"), 50)
    cached, exact = (
        sample(f, VP(), score.codec, WorkUnit(0, 0, 4), Sampling(num_steps=50)) for f in (wrapped, score)
    )
    assert wrapped.ledger.totals()["network_calls"] <= 2  # the naive preset refreshes nothing
    torch.testing.assert_close(cached, exact, atol=1e-4, rtol=1e-4)
