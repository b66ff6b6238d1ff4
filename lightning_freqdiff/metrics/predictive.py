"""Predictive score: does a forecaster that is trained on generated series work on real ones?"""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_freqdiff.metrics.post_hoc import (
    PostHoc,
    RecurrentHead,
    batched,
    build,
    draw,
    draw_distinct,
    fit,
    training,
)
from lightning_freqdiff.metrics.protocol import (
    LearntMetric,
    Protocol,
    initialize_like_timegan,
    settings_for,
    timegan_network,
    unit_scale,
)
from lightning_freqdiff.metrics.samples import check_pair, widen

TIMEGAN_STEPS = 5000


def predictive_score(
    generated: Tensor,
    reference: Tensor,
    settings: PostHoc | None = None,
    protocol: Protocol = "project",
    seed: int | None = None,
) -> Tensor:
    """Train a one-step forecaster on generated series and measure its error on real ones.

    The last channel one step ahead is predicted from the others up to now; a single channel from itself.
    Channels are scaled to the reference's ``[0, 1]`` and the forecast passes a sigmoid, as in TimeGAN (Yoon
    et al., NeurIPS 2019, section 5).

    ``protocol="timegan"`` is what tables in the field report: one layer of ``M // 2`` recurrent units (one unit where
    ``M`` is 1, and the channel its own input, for which TimeGAN has no rule), a sigmoid, the absolute error, 5,000
    steps of Adam at 1e-3 on 128 distinct series. The gate of a cuDNN unit acts after the recurrent product,
    TensorFlow's before it; initial values are TensorFlow's. For 24 steps that is about half a minute of a core, and
    in proportion to the length.

    Args:
        generated: Series to train on, ``(n, N, M)``, ``N >= 2``.
        reference: Real series to test on, ``(m, N, M)``.
        settings: How the forecaster is trained; values compare only under equal settings. By default as the protocol
            says.
        protocol: ``project`` or ``timegan``.
        seed: In place of the settings' seed.

    Returns:
        Mean absolute error, a scalar, in units of the range of the real last channel. Lower is better; the
        score of real training series against held-out ones is what can be reached.

    Examples:
        >>> x = torch.rand(100, 1, 1).expand(100, 8, 1)  # constant series: the next value is the last one
        >>> settings = PostHoc(hidden=8, layers=1, steps=60, batch_size=32, lr=0.05)
        >>> bool(predictive_score(x, x, settings) < predictive_score(torch.rand(100, 8, 1), x, settings))
        True
    """
    check_pair(generated, reference)
    if reference.shape[1] < 2:
        raise ValueError("expected at least 2 steps to forecast one from another, got 1: lengthen the series")
    settings = settings_for(protocol, settings, timegan_network(reference.shape[2], TIMEGAN_STEPS), seed)
    published = protocol == "timegan"
    device = reference.device
    with training(device):
        random = torch.Generator().manual_seed(settings.seed)
        real, fake = widen(reference).clone(), widen(generated).clone().to(device)
        real, fake = (unit_scale(x, real) for x in (real, fake))
        given = slice(0, max(1, real.shape[-1] - 1))

        def network() -> RecurrentHead:
            net = RecurrentHead(given.stop, settings.hidden, settings.layers)
            return initialize_like_timegan(net) if published else net

        net = build(network, settings.seed, device)
        pick = draw_distinct if published else draw

        def error(x: Tensor) -> Tensor:
            return (net(x[:, :-1, given]).sigmoid() - x[:, 1:, -1]).abs()

        fit(net, lambda: error(pick(fake, settings.batch_size, random)).mean(), settings.steps, settings.lr)
        return batched(error, real).mean()


class PredictiveScore(LearntMetric):
    """Post-hoc forecasting, trained on generated and tested on real series (:func:`predictive_score`)."""

    def compute(self) -> Tensor:
        """Return the mean absolute error, a scalar."""
        return predictive_score(*self.samples(), self.settings, self.protocol, self.seed)
