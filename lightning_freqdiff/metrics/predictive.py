"""Predictive score: does a forecaster that is trained on generated series work on real ones?"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lightning_freqdiff.metrics.base import TwoSampleMetric
from lightning_freqdiff.metrics.post_hoc import PostHoc, RecurrentHead, batched, build, draw, fit, training
from lightning_freqdiff.metrics.samples import check_pair, widen


def predictive_score(generated: Tensor, reference: Tensor, settings: PostHoc | None = None) -> Tensor:
    """Train a one-step forecaster on generated series and measure its error on real ones.

    The last channel one step ahead is predicted from the others up to now; a single channel from itself.
    Channels are scaled to the reference's ``[0, 1]`` and the forecast passes a sigmoid, as in TimeGAN (Yoon
    et al., NeurIPS 2019, section 5).

    Args:
        generated: Series to train on, ``(n, N, M)``, ``N >= 2``.
        reference: Real series to test on, ``(m, N, M)``.
        settings: How the forecaster is trained; values compare only under equal settings.

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
    settings = settings or PostHoc()
    device = reference.device
    with training(device):
        random = torch.Generator().manual_seed(settings.seed)
        real, fake = widen(reference).clone(), widen(generated).clone().to(device)
        low, high = real.amin((0, 1)), real.amax((0, 1))
        span = torch.where(high > low, high - low, 1.0)
        real, fake = (((x - low) / span).float() for x in (real, fake))
        given = slice(0, max(1, real.shape[-1] - 1))
        net = build(
            lambda: RecurrentHead(real[..., given].shape[-1], settings.hidden, settings.layers),
            settings.seed,
            device,
        )

        def error(x: Tensor) -> Tensor:
            return (net(x[:, :-1, given]).sigmoid() - x[:, 1:, -1]).abs()

        fit(net, lambda: error(draw(fake, settings.batch_size, random)).mean(), settings.steps, settings.lr)
        return batched(error, real).mean()


class PredictiveScore(TwoSampleMetric):
    """Post-hoc forecasting, trained on generated and tested on real series (:func:`predictive_score`).

    Every rank trains the same forecaster on the gathered series. The value depends on their order, as that
    of any trained network does, so it may differ a little with the number of ranks.

    Args:
        settings: How the forecaster is built and trained.
        kwargs: Options of ``torchmetrics.Metric``.
    """

    higher_is_better = False

    def __init__(self, settings: PostHoc | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.settings = settings or PostHoc()

    def compute(self) -> Tensor:
        """Return the mean absolute error, a scalar."""
        return predictive_score(*self.samples(), settings=self.settings)
