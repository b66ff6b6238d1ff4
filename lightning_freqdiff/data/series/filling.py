"""Series with missing values as they are: what stands in the gaps, and what was seen.

A network must be shown whole series. Were the gaps filled with the best guess, or by interpolation, filled series
would be smoother than real ones, and the network would take them to be so. A *draw* from the Gaussian that goes
through the observed values has the right mean and covariance, whatever is missing, so that a Gaussian is learnt
exactly where gaps are there by chance. The loss counts observed values alone (``diffusion/losses.py``).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from lightning_freqdiff.data.series.dataset import Rows

LARGEST = 512
"""Numbers in a series, at most: every series has a system of equations of its own."""
CHUNK = 64
"""Series that are filled together."""
RIDGE = 1e-4
"""Share of the variances that is added to them, so that systems of equations can be solved."""
STREAM = 4
"""Sets the draws apart from others of the same seed."""


class GaussianFill:
    """Mean and covariance of series with gaps, and draws of what is missing.

    Args:
        batches: Training series ``(B, N, M)``, NaN where a value is missing; asked for twice.
        seed: Of the draws. A series is filled alike every time.
        source: Where the series come from, for errors.

    Raises:
        ValueError: Where a step is observed in fewer than two series, or series are too long.
    """

    def __init__(self, batches: Callable[[], Iterable[Tensor]], seed: int, source: str) -> None:
        self.seed = seed
        count: Tensor | float = 0.0
        total: Tensor | float = 0.0
        shape = torch.Size()
        for batch in batches():
            shape = batch.shape[1:]
            if shape.numel() > LARGEST:
                raise ValueError(
                    f"{source}: expected series of at most {LARGEST} numbers to fill gaps in, got {shape.numel()}: "
                    "shorten them by `data.window`, or set `data.missing` interpolate"
                )
            seen, rows = _seen(batch)
            count, total = count + seen.sum(0), total + rows.sum(0)
        assert isinstance(count, Tensor)
        if (count < 2).any():
            step, channel = divmod(int((count < 2).int().argmax()), shape[1])
            raise ValueError(
                f"{source}: expected every step to be observed in 2 training series or more, got fewer at step "
                f"{step} of channel {channel}: leave the channel out, or set `data.missing` interpolate"
            )
        self.mean = total / count
        pairs, products = torch.zeros(len(count), len(count)).double(), torch.zeros(len(count), len(count)).double()
        for batch in batches():
            seen, rows = _seen(batch)
            rows = rows - seen * self.mean
            pairs, products = pairs + seen.T @ seen, products + rows.T @ rows
        self.covariance = _positive(products / pairs.clamp(min=1))
        self.root = torch.linalg.cholesky(self.covariance)

    def __call__(self, x: Tensor, numbers: np.ndarray) -> Tensor:
        """Fill series ``(B, N, M)`` of these numbers, by Matheron's rule: a draw, put right where one knows."""
        gaps = x.isnan().flatten(1).any(1)
        if not gaps.any():
            return x
        x, which = x.clone(), gaps.nonzero().flatten()
        for some in which.split(CHUNK):
            seen, rows = _seen(x[some])
            normal = [
                np.random.default_rng([self.seed, STREAM, int(numbers[i])]).normal(size=len(self.mean)) for i in some
            ]
            drawn = torch.from_numpy(np.stack(normal)) @ self.root.T
            both = seen.unsqueeze(2) * seen.unsqueeze(1) * self.covariance
            both.diagonal(dim1=1, dim2=2).add_(1 - seen)  # what is not seen says nothing
            wrong = seen * (rows - self.mean - drawn)
            known = torch.cholesky_solve(wrong.unsqueeze(2), torch.linalg.cholesky(both)).squeeze(2)
            filled = self.mean + drawn + (seen * known) @ self.covariance
            x[some] = torch.where(seen > 0, rows, filled).view_as(x[some]).to(x)
        return x


def _seen(batch: Tensor) -> tuple[Tensor, Tensor]:
    """Return 1 where a value is there, and values with 0 where there is none, ``(B, D)``, float64."""
    rows = batch.flatten(1).double()
    return (~rows.isnan()).double(), rows.nan_to_num()


def _positive(covariance: Tensor) -> Tensor:
    """Return the nearest matrix that is a covariance, of the same variances, with a ridge."""
    deviation = covariance.diagonal().clamp(min=0).sqrt()
    unit = torch.where(deviation > 0, deviation, 1.0)
    values, vectors = torch.linalg.eigh(covariance / unit / unit.unsqueeze(1))
    mended = (vectors * values.clamp(min=RIDGE)) @ vectors.T
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
