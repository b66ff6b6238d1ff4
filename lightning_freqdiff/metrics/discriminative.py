"""Discriminative score: how well can a classifier tell generated series from real ones?"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from lightning_freqdiff.metrics.post_hoc import (
    PostHoc,
    RecurrentHead,
    batched,
    build,
    draw,
    draw_distinct,
    fit,
    standardize,
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

TRAIN_SHARE = 0.8  # of each class, as in TimeGAN
TIMEGAN_STEPS = 2000


def discriminative_score(
    generated: Tensor,
    reference: Tensor,
    settings: PostHoc | None = None,
    protocol: Protocol = "project",
    seed: int | None = None,
) -> Tensor:
    r"""Train a recurrent classifier, generated against real, and score it on held-out series.

    .. math:: | \text{accuracy} - 1/2 |

    (Yoon et al., TimeGAN, NeurIPS 2019, section 5.) Here channels are standardised, and of the larger set a
    random part is left out, so that chance is one half.

    ``protocol="timegan"`` is what tables in the field report: channels scaled to the real ``[0, 1]``, one layer of
    ``M // 2`` recurrent units (one unit where ``M`` is 1), whose last state a linear layer makes a logit; 2,000 steps
    of Adam at 1e-3 on 128 distinct series of each class; 80 % of each to train on. The gate of a cuDNN unit acts
    after the recurrent product, TensorFlow's before it; initial values are TensorFlow's. For 24 steps that is about
    ten seconds of a core, and in proportion to the length. Give as many generated series as real ones.

    Args:
        generated: Series, ``(n, N, M)``, at least 2.
        reference: Real series, ``(m, N, M)``, at least 2.
        settings: How the classifier is trained; values compare only under equal settings and counts. By default as
            the protocol says.
        protocol: ``project`` or ``timegan``.
        seed: In place of the settings' seed.

    Returns:
        Scalar in ``[0, 1/2]``, lower is better.

    Examples:
        >>> x = torch.randn(100, 8, 1)
        >>> discriminative_score(x + 10, x, PostHoc(hidden=8, steps=50, lr=0.01))
        tensor(0.5000)
    """
    check_pair(generated, reference)
    settings = settings_for(protocol, settings, timegan_network(reference.shape[2], TIMEGAN_STEPS), seed)
    published = protocol == "timegan"
    scale, pick = (unit_scale, draw_distinct) if published else (standardize, draw)
    count = min(len(generated), len(reference))
    if count < 2:
        raise ValueError("expected at least 2 series to train and test on, got 1: add some to the smaller set")
    device = reference.device
    with training(device):
        random = torch.Generator().manual_seed(settings.seed)
        real, fake = widen(reference).clone(), widen(generated).clone().to(device)
        # Shuffled, cut to one length, and below parted into training and test series.
        both = [scale(x, real)[torch.randperm(len(x), generator=random)[:count]] for x in (fake, real)]
        cut = min(max(1, round(TRAIN_SHARE * count)), count - 1)

        def network() -> RecurrentHead:
            net = RecurrentHead(real.shape[-1], settings.hidden, settings.layers)
            return initialize_like_timegan(net) if published else net

        net = build(network, settings.seed, device)

        def loss() -> Tensor:
            parts = [pick(x[:cut], settings.batch_size, random) for x in both]
            labels = torch.arange(2.0, device=device).repeat_interleave(len(parts[0]))
            return binary_cross_entropy_with_logits(net(torch.cat(parts))[:, -1], labels)

        fit(net, loss, settings.steps, settings.lr)
        fake_logit, real_logit = (batched(net, x[cut:])[:, -1] for x in both)
        correct = torch.cat([fake_logit <= 0, real_logit > 0]).float().mean()
        return (correct - 0.5).abs()


class DiscriminativeScore(LearntMetric):
    """Post-hoc classification of generated against real series (:func:`discriminative_score`)."""

    def compute(self) -> Tensor:
        """Return the score, a scalar."""
        return discriminative_score(*self.samples(), self.settings, self.protocol, self.seed)
