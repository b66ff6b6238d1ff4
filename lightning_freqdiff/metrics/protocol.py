"""Scores as the field publishes them, beside the project's own: their scale, their networks, their repetitions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from lightning_freqdiff.metrics.base import TwoSampleMetric
from lightning_freqdiff.metrics.post_hoc import PostHoc, RecurrentHead
from lightning_freqdiff.metrics.samples import check_count, check_samples, widen

Protocol = Literal["project", "timegan"]
QUANTILE_NODES = 200_001  # of the quantile of Student's t: eight digits


def unit_scale(x: Tensor, reference: Tensor) -> Tensor:
    """Bring each channel to the ``[0, 1]`` that it has over the whole reference, series and steps together.

    TimeGAN's data are scaled so (Yoon et al., NeurIPS 2019). Values beyond the reference's range stay beyond ``[0,
    1]``; a channel that is constant in the reference keeps its scale.

    Args:
        x: Series, ``(n, N, M)``.
        reference: Series whose range counts, ``(m, N, M)``.

    Returns:
        Series ``(n, N, M)``, float32.

    Examples:
        >>> unit_scale(torch.tensor([[[2.0], [5.0]]]), torch.tensor([[[1.0], [3.0]]])).flatten().tolist()
        [0.5, 2.0]
    """
    check_samples(x, "x")
    real = widen(check_samples(reference, "reference"))
    if x.shape[2] != real.shape[2]:
        raise ValueError(
            f"expected {real.shape[2]} channels as in `reference`, got {x.shape[2]}: cut or add channels of `x`"
        )
    low, high = real.amin((0, 1)), real.amax((0, 1))
    return ((widen(x) - low) / torch.where(high > low, high - low, 1.0)).float()


def check_protocol(protocol: str) -> None:
    """Raise a ``ValueError`` unless the protocol has a name that is known."""
    if protocol not in get_args(Protocol):
        raise ValueError(f"expected one of {get_args(Protocol)}, got {protocol!r}: set `protocol`")


def timegan_network(channels: int, steps: int) -> PostHoc:
    """Return TimeGAN's post-hoc network: a layer of ``channels // 2`` units, and of one unit for a single channel."""
    return PostHoc(hidden=max(1, channels // 2), layers=1, steps=steps, batch_size=128, lr=1e-3)


def settings_for(protocol: str, given: PostHoc | None, published: PostHoc, seed: int | None) -> PostHoc:
    """Choose the settings: those given, or else the protocol's; and put the seed in, if there is one."""
    check_protocol(protocol)
    chosen = given or (published if protocol == "timegan" else PostHoc())
    return chosen if seed is None else replace(chosen, seed=seed)


def initialize_like_timegan(net: RecurrentHead) -> RecurrentHead:
    """Initialise as TensorFlow does a ``GRUCell``: weights by Glorot, gates with a bias of 1."""
    width = net.gru.hidden_size
    for name, value in net.gru.named_parameters():
        if name.startswith("bias"):
            nn.init.zeros_(value)
            if name.startswith("bias_ih"):
                nn.init.ones_(value[: 2 * width])
    for level in range(net.gru.num_layers):
        inputs = getattr(net.gru, f"weight_ih_l{level}").shape[1] + width
        for rows, outputs in ((slice(0, 2 * width), 2 * width), (slice(2 * width, None), width)):
            bound = math.sqrt(6 / (inputs + outputs))
            for part in ("ih", "hh"):
                nn.init.uniform_(getattr(net.gru, f"weight_{part}_l{level}")[rows], -bound, bound)
    nn.init.xavier_uniform_(net.head.weight)
    nn.init.zeros_(net.head.bias)
    return net


def repeated(score: Callable[[int], Tensor | float], repetitions: int = 5, seed: int = 0) -> dict[str, float]:
    """Run a score under several seeds and tell its mean and how sure that is.

    Costs ``repetitions`` times the score.

    Args:
        score: Function of a seed, such as ``lambda seed: predictive_score(a, b, protocol="timegan", seed=seed)``.
        repetitions: How often, at least 2.
        seed: The first seed; the others follow it.

    Returns:
        ``mean``; ``two_se``, twice its standard error; ``half_width`` of the 95 % confidence interval by Student's t,
        which is what tables with ``±`` give (for 5 repetitions, 2.78 standard errors).

    Examples:
        >>> found = repeated(lambda seed: float(seed), repetitions=3)
        >>> found["mean"], round(found["two_se"], 4), round(found["half_width"], 4)
        (1.0, 1.1547, 2.4841)
    """
    check_count(repetitions, "repetitions", least=2)
    check_count(seed, "seed", least=0)
    values = torch.tensor([float(score(seed + i)) for i in range(repetitions)], dtype=torch.float64)
    error = float(values.std()) / math.sqrt(repetitions)
    return {
        "mean": float(values.mean()),
        "two_se": 2 * error,
        "half_width": student_quantile(repetitions - 1) * error,
    }


def student_quantile(freedom: int, within: float = 0.95) -> float:
    """Compute how far from 0 Student's t with ``freedom`` degrees of freedom stays with a probability ``within``.

    With ``t = sqrt(freedom) tan(angle)`` the density is in proportion to ``cos(angle) ** (freedom - 1)``.
    """
    angle = torch.linspace(0, math.pi / 2, QUANTILE_NODES, dtype=torch.float64)
    density = angle.cos() ** (freedom - 1)
    mass = torch.cumulative_trapezoid(density, angle)
    wanted = within * float(mass[-1])  # of the positive half
    above = int(torch.searchsorted(mass, wanted))
    low = float(mass[above - 1])
    part = (wanted - low) / (float(mass[above]) - low)
    return math.sqrt(freedom) * math.tan(float(angle[above]) + part * float(angle[1]))


class LearntMetric(TwoSampleMetric):
    """A metric that trains a network on the gathered series, in one of the protocols.

    Every rank trains the same network. The value depends on the order of the series, as that of any trained network
    does, so it may differ a little with the number of ranks.

    Args:
        settings: How the network is built and trained, values compare only under equal ones; by default as the
            protocol says.
        protocol: ``project`` or ``timegan``.
        seed: In place of the settings' seed.
        kwargs: Options of ``torchmetrics.Metric``.
    """

    higher_is_better = False

    def __init__(
        self, settings: Any = None, protocol: Protocol = "project", seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        check_protocol(protocol)
        self.settings, self.seed = settings, seed
        self.protocol: Protocol = protocol
