"""Series with missing values as they are: what stands in the gaps, and what was seen.

A network must be shown whole series. Were the gaps filled with the best guess, or by interpolation, filled series
would be smoother than real ones, and the network would take them to be so. A *draw* from the Gaussian that goes
through the observed values has the right mean and covariance, whatever is missing, so that a Gaussian is learnt
exactly where gaps are there by chance. That Gaussian is found by expectation and maximisation: a covariance made pair
by pair, of the series that have both, is that of no series, and what it draws is rough. The loss counts observed
values alone (``diffusion/losses.py``). Of channels that are positive and span orders of magnitude, as prices do, the
Gaussian is one of logarithms: those are what a model learns (``logarithm.py``), and no price below 0 stands in a gap.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from lightning_freqdiff.data.series.dataset import Rows
from lightning_freqdiff.logarithm import LOOKED, ORDERS, Logarithm, span

LARGEST = 512
"""Numbers in a series, at most: every series has a system of equations of its own."""
CHUNK = 64
"""Series that are filled together."""
RIDGE, FINER = 1e-4, 1e-6
"""The least variance along any direction, of correlations made pair by pair and of those found in rounds."""
ROUNDS, SETTLED = (10, 50), 1e-3
"""Rounds of expectation and maximisation, and the change of the mean logarithm of variances that ends them: along all
directions alike, as the least of them make a series smooth."""
ENOUGH, WORK = 2, 3e11
"""Values observed at every step, for each number of a series, that these want; and multiplications they may take."""
AIM = 30
"""Rounds that there is time for, by how many series take part."""
STREAM = 4
"""Sets the draws apart from others of the same seed."""


class GaussianFill:
    """Mean and covariance of series with gaps, and draws of what is missing.

    Args:
        batches: Training series ``(B, N, M)``, NaN where a value is missing; asked for several times.
        seed: Of the draws. A series is filled alike every time.
        source: Where the series come from, for errors.

    Raises:
        ValueError: Where a step is observed in fewer than two series, or series are too long.
    """

    def __init__(self, batches: Callable[[], Iterable[Tensor]], seed: int, source: str) -> None:
        self.seed = seed
        count, series = 0.0, 0
        shape, least = torch.Size(), []
        for batch in batches():
            shape = batch.shape[1:]
            if shape.numel() > LARGEST:
                raise ValueError(
                    f"{source}: expected series of at most {LARGEST} numbers to fill gaps in, got {shape.numel()}: "
                    "shorten them by `data.window`, or set `data.missing` interpolate"
                )
            count, series = count + _seen(batch)[0].sum(0), series + len(batch)
            least.append(torch.where(batch.isnan(), torch.inf, batch).amin((0, 1)))
        assert isinstance(count, Tensor)
        if (count < 2).any():
            step, channel = divmod(int((count < 2).int().argmax()), shape[1])
            raise ValueError(
                f"{source}: expected every step to be observed in 2 training series or more, got fewer at step "
                f"{step} of channel {channel}: leave the channel out, or set `data.missing` interpolate"
            )
        self.logarithm = Logarithm(shape[1])
        some = torch.cat(list(_every(-(-series * shape.numel() // LOOKED), batches())))
        lowest = torch.stack(least).amin(0)
        self.logarithm.take((span(some) > ORDERS) & (lowest > 0), lowest)
        self.mean = torch.stack([_seen(self._learnt(batch))[1].sum(0) for batch in batches()]).sum(0) / count
        pairs, products = torch.zeros(len(count), len(count)).double(), torch.zeros(len(count), len(count)).double()
        for batch in batches():
            seen, rows = _seen(self._learnt(batch))
            rows = rows - seen * self.mean
            pairs, products = pairs + seen.T @ seen, products + rows.T @ rows
        self.covariance = _positive(products / pairs.clamp(min=1), RIDGE)
        wanted = ENOUGH * len(count) / float(count.min())
        if wanted <= 1:
            stride = max(1, int(1 / max(wanted, WORK / AIM / (series * len(count) ** 3))))
            self._settle(self._learnt(torch.cat(list(_every(stride, batches())))))
        self.root = torch.linalg.cholesky(self.covariance)

    def _settle(self, series: Tensor) -> None:
        """Go from mean and covariance to those that make what was seen likelier, until they hardly change.

        Expectation and maximisation, as Dempster, Laird and Rubin (1977) have it for a Gaussian with values missing.
        """
        least, most = ROUNDS
        for _ in range(min(most, max(least, int(WORK / (len(series) * len(self.mean) ** 3))))):
            found, precision = [], torch.zeros_like(self.covariance)
            for some in series.split(CHUNK):
                seen, rows = _seen(some)
                inverse = torch.cholesky_inverse(torch.linalg.cholesky(self._of(seen)))
                inverse = inverse * seen.unsqueeze(2) * seen.unsqueeze(1)
                wrong = torch.einsum("bij,bj->bi", inverse, rows - self.mean)
                found.append(self.mean + wrong @ self.covariance)
                precision += inverse.sum(0)
            expected = torch.cat(found)
            self.mean = expected.mean(0)
            open_ = self.covariance - self.covariance @ (precision / len(expected)) @ self.covariance
            before, self.covariance = self.covariance, _positive(expected.T.cov(correction=0) + open_, FINER)
            if (self.covariance.logdet() - before.logdet()).abs() < SETTLED * len(before):
                break

    def _of(self, seen: Tensor) -> Tensor:
        """Return the covariances of what is seen of series, ``(B, D, D)``; what is not says nothing."""
        both = seen.unsqueeze(2) * seen.unsqueeze(1) * self.covariance
        both.diagonal(dim1=1, dim2=2).add_(1 - seen)
        return both

    def _learnt(self, batch: Tensor) -> Tensor:
        """Return series as they are learnt, float64, NaN where a value is missing."""
        rows = batch.double()
        return torch.where(rows.isnan(), rows, self.logarithm(rows))

    def __call__(self, x: Tensor, numbers: np.ndarray) -> Tensor:
        """Fill series ``(B, N, M)`` of these numbers, by Matheron's rule: a draw, put right where one knows."""
        gaps = x.isnan().flatten(1).any(1)
        if not gaps.any():
            return x
        x, which = x.clone(), gaps.nonzero().flatten()
        for some in which.split(CHUNK):
            seen, rows = _seen(self._learnt(x[some]))
            normal = [
                np.random.default_rng([self.seed, STREAM, int(numbers[i])]).normal(size=len(self.mean)) for i in some
            ]
            drawn = torch.from_numpy(np.stack(normal)) @ self.root.T
            wrong = seen * (rows - self.mean - drawn)
            known = torch.cholesky_solve(wrong.unsqueeze(2), torch.linalg.cholesky(self._of(seen))).squeeze(2)
            filled = self.logarithm.back((self.mean + drawn + (seen * known) @ self.covariance).view_as(x[some]))
            x[some] = torch.where(x[some].isnan(), filled.to(x), x[some])
        return x


def _seen(batch: Tensor) -> tuple[Tensor, Tensor]:
    """Return 1 where a value is there, and values with 0 where there is none, ``(B, D)``, float64."""
    rows = batch.flatten(1).double()
    return (~rows.isnan()).double(), rows.nan_to_num()


def _every(stride: int, batches: Iterable[Tensor]) -> Iterator[Tensor]:
    """Yield every so many-th series of batches, which may be in an order."""
    passed = 0
    for batch in batches:
        yield batch[-passed % stride :: stride]
        passed += len(batch)


def _positive(covariance: Tensor, ridge: float) -> Tensor:
    """Return the nearest matrix that is a covariance, of the same variances, with a ridge."""
    deviation = covariance.diagonal().clamp(min=0).sqrt()
    unit = torch.where(deviation > 0, deviation, 1.0)
    values, vectors = torch.linalg.eigh(covariance / unit / unit.unsqueeze(1))
    mended = (vectors * values.clamp(min=ridge)) @ vectors.T
    mended = mended / mended.diagonal().sqrt() / mended.diagonal().sqrt().unsqueeze(1)
    least = deviation.clamp(min=1e-6 * float(deviation.max()) or 1e-6)
    return mended * least * least.unsqueeze(1)


class Filled(Rows):
    """Rows whose gaps are filled: once, where they are in memory, or else as they are fetched.

    Args:
        rows: Rows with gaps.
        fill: Fills series of given numbers.
        keep: Whether they are in memory.
    """

    def __init__(self, rows: Rows, fill: GaussianFill, keep: bool) -> None:
        super().__init__(rows.x, rows.index)
        self.fill, self.kept = fill, None
        self.kept = self.whole() if keep else None

    def __getitems__(self, indices: Sequence[int] | np.ndarray) -> Tensor:
        rows = np.asarray(indices)
        if self.kept is not None:
            return self.kept[torch.from_numpy(rows)]
        return self.fill(super().__getitems__(rows), rows if self.index is None else self.index[rows])

    def seen(self, indices: Sequence[int] | np.ndarray) -> Tensor:
        """Return 1 where a value of some rows is there, else 0, `(B, N, M)`."""
        return (~super().__getitems__(indices).isnan()).float()

    def batches(self, size: int) -> Iterator[Tensor]:
        """Yield all rows, filled."""
        for first in range(0, len(self), size):
            yield self.__getitems__(np.arange(first, min(first + size, len(self))))

    def whole(self) -> Tensor:
        """Return all rows, filled."""
        return self.__getitems__(np.arange(len(self)))
