"""The linear model of the training series, and what is known of each series of a batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_freqdiff.codec import Codec
from lightning_freqdiff.conditional.blocks import Block, Spread, by_channel
from lightning_freqdiff.conditional.solving import Solved, affordable, factored


class Gaussian:
    """The linear model of the training series, in units of the data.

    Where the covariance of all coordinates was taken there is one block of everything. Else channels are independent,
    a block each, and where not even a channel's covariance was taken, so are frequencies.

    Args:
        codec: What was learnt of the training series.
        joint: Use the covariance of all coordinates, where it is known.
    """

    def __init__(self, codec: Codec, joint: bool = True) -> None:
        layout, device = codec.layout, codec.noise_scale.device
        self.layout, self.size = layout, codec.noise_scale.numel()
        self.dtype = torch.float32 if device.type == "mps" else torch.float64  # there is no float64 on Apple's GPUs
        self.mean = layout.decode(codec.mean.to(self.dtype).unsqueeze(0)).flatten()
        self.unit = (codec.noise_scale * codec.scale * codec.active).to(self.dtype)
        directions = codec.directions if joint else None
        if directions is None:
            deviation = codec.whiten(codec.variance.sqrt().unsqueeze(0)).to(self.dtype).view(self.unit.shape)
            self.blocks = list(by_channel(layout, self.unit, deviation.square()))
        elif directions.groups > 1:
            self.blocks = list(by_channel(layout, self.unit, directions.power.view_as(self.unit), directions.basis))
        else:
            everything = torch.arange(self.size, device=device)
            basis = directions.basis.to(self.dtype)
            design = self.series(basis.T).T
            entries = torch.arange(len(self.mean), device=device)
            self.blocks = [Block(entries, everything, basis, design, directions.power.to(self.dtype))]

    def series(self, rows: Tensor) -> Tensor:
        """Return ``D r`` of whitened rows ``(B, n)``, flattened, ``(B, N * M)``: series less their mean."""
        return self.layout.decode(rows.to(self.dtype).view(-1, *self.unit.shape) * self.unit).flatten(1)

    def whitened(self, series: Tensor) -> Tensor:
        """Return the rows ``(B, n)`` of series less their mean, ``(B, N * M)``: the way back of :meth:`series`."""
        shape = self.layout.length, self.layout.channels
        tokens = self.layout.tokenize(series.to(self.dtype).view(-1, *shape))
        live = self.unit > 0
        return torch.where(live, tokens / torch.where(live, self.unit, 1.0), 0.0).flatten(1)

    def spread_out(self, slope: Tensor, spread: Spread) -> Tensor:
        """Return ``C Dᵀ`` of a slope over series ``(B, N * M)``: rows ``(B, n)``, what goes together together."""
        rows = slope.new_zeros(len(slope), self.size)
        for block in self.blocks:
            step = (slope[:, block.entries] @ block.design) * spread(block)
            rows[:, block.coordinates] = step if block.basis is None else step @ block.basis.T
        return rows

    def scaled(self, rows: Tensor, gain: Spread) -> Tensor:
        """Return rows ``(B, n)`` multiplied along the directions of each block."""
        made = torch.zeros_like(rows, dtype=self.dtype)
        for block in self.blocks:
            own, basis = rows[:, block.coordinates].to(self.dtype), block.basis
            made[:, block.coordinates] = own * gain(block) if basis is None else (own @ basis * gain(block)) @ basis.T
        return made

    def alike(self) -> list[list[Block]]:
        """Return the blocks, those of the same shape together."""
        shapes = [block.design.shape for block in self.blocks]
        return [
            [b for b, own in zip(self.blocks, shapes, strict=True) if own == shape] for shape in dict.fromkeys(shapes)
        ]

    @property
    def deviation(self) -> float:
        """Root mean square deviation of the training series from their mean."""
        power = sum(float((block.design.square() @ block.power).sum()) for block in self.blocks)
        return (power / len(self.mean)) ** 0.5

    def rows(self, noise: Tensor) -> Tensor:
        """Return rows ``(B, n)`` of the training law, made of standard normal numbers ``(B, n)``."""
        noise = noise.to(self.dtype)
        rows = torch.zeros_like(noise)
        for block in self.blocks:
            drawn = noise[:, block.coordinates] * block.power.sqrt()
            rows[:, block.coordinates] = drawn if block.basis is None else drawn @ block.basis.T
        return rows

    def known(self, mask: Tensor) -> Known:
        """Return how values are known where ``mask`` is 1, ``(B, N, M)``."""
        return Known(self, mask.flatten(1) > 0)

    def draw(self, observed: Tensor, mask: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return the mean of series given observed values, or draws of them, ``(B, N, M)``, in the data's units.

        Draws are made by Matheron's rule: a draw of the training law, moved by what it lacks (Doucet, "A note on
        efficient conditional simulation of Gaussian distributions" (2010)).

        Args:
            observed: Values ``(B, N, M)``; anything where they are not known.
            mask: 1 where they are, ``(B, N, M)``.
            noise: Standard normal numbers ``(B, n)``; the mean is returned without.
        """
        rows = torch.zeros(len(observed), self.size, dtype=self.dtype, device=self.mean.device)
        rows = rows if noise is None else self.rows(noise)
        known = self.known(mask)
        rows = rows + known.move(known.lack(rows, observed), lambda block: block.power.unsqueeze(0))
        series = (self.mean + self.series(rows)).view(observed.shape)
        return torch.where(mask > 0, observed.to(self.dtype), series).to(torch.get_default_dtype())


class _Group(NamedTuple):
    """Series of which the same is known.

    Attributes:
        rows: Which series, ``(b,)``.
        columns: Which of all that is known of any, ``(k,)``.
        parts: The blocks that it is made of, and how: by entries of the block ``(k,)``, or a matrix over these,
            ``(k, e)``.
    """

    rows: Tensor
    columns: Tensor
    parts: list[tuple[Block, Tensor]]

    def maps(self) -> list[tuple[Block, Tensor]]:
        """Return ``A`` in the directions of each block, ``(k, c)``."""
        return [(b, how @ b.design if how.is_floating_point() else b.design[how]) for b, how in self.parts]


class Known:
    """What is known of each series of a batch, ``y = A r``, in groups that are solved together.

    Args:
        gaussian: The linear model.
        mask: Whether each number is known, ``(B, N * M)``.
        matrix: Weights of sums of all numbers, ``(k, N * M)``, which are known of every series; what is lacking of
            them stands behind that of the numbers, if these are given.
        count: Series, where no mask says it.
    """

    def __init__(
        self, gaussian: Gaussian, mask: Tensor | None = None, matrix: Tensor | None = None, count: int = 0
    ) -> None:
        self.gaussian, self.mask = gaussian, mask
        self.groups: list[_Group] = []
        if matrix is not None:
            self.groups = list(self._joined(mask, matrix.to(gaussian.mean), count))
        elif mask is not None:
            for block in gaussian.blocks:
                seen, which = torch.unique(mask[:, block.entries], dim=0, return_inverse=True)
                for number, pattern in enumerate(seen.unbind()):
                    if pattern.any():
                        picked = pattern.nonzero().flatten()
                        rows = (which == number).nonzero().flatten()
                        self.groups.append(_Group(rows, block.entries[picked], [(block, picked)]))

    def _joined(self, mask: Tensor | None, matrix: Tensor, count: int) -> Iterator[_Group]:
        """Group series by their masks, where sums couple all numbers."""
        device, size = matrix.device, matrix.shape[1]
        behind = torch.arange(len(matrix), device=device) + (0 if mask is None else size)
        mask = torch.zeros(count, size, dtype=torch.bool, device=device) if mask is None else mask
        seen, which = torch.unique(mask, dim=0, return_inverse=True)
        for number, pattern in enumerate(seen.unbind()):
            picked = pattern.nonzero().flatten()
            single = torch.zeros(len(picked), size, dtype=matrix.dtype, device=device)
            single[torch.arange(len(picked), device=device), picked] = 1
            whole = torch.cat([single, matrix])
            parts = [(block, whole[:, block.entries]) for block in self.gaussian.blocks]
            yield _Group((which == number).nonzero().flatten(), torch.cat([picked, behind]), parts)

    def __bool__(self) -> bool:
        """Whether anything is known of any series."""
        return bool(self.groups)

    def lack(self, rows: Tensor, observed: Tensor) -> Tensor:
        """Return by how much observed values ``(B, N, M)`` are off those of rows ``(B, n)``: ``(B, N * M)``."""
        return self.seen(
            observed.flatten(1).to(self.gaussian.dtype) - self.gaussian.mean - self.gaussian.series(rows)
        )

    def seen(self, series: Tensor) -> Tensor:
        """Return flattened series ``(B, N * M)`` where they are known, and 0 elsewhere."""
        assert self.mask is not None
        return torch.where(self.mask, series, 0.0)

    def factors(self, spread: Spread) -> list[Tensor]:
        """Factor ``A C Aᵀ + τ²`` of each group once, for variances that are the same for all series."""
        return [factored(group.maps(), [spread(block) for block, _ in group.parts]) for group in self.groups]

    def move(self, lack: Tensor, spread: Spread, factors: list[Tensor] | None = None) -> Tensor:
        """Return ``C Aᵀ (A C Aᵀ + τ²)⁻¹`` of what is lacking, ``(B, n)``: what rows have to be moved by.

        Differentiable in ``lack``.

        Args:
            lack: ``y - A m``, ``(B, k)``; of a mask, over all numbers, ``(B, N * M)``.
            spread: Variances ``c``.
            factors: What :meth:`factors` returned for them.
        """
        moved = lack.new_zeros(len(lack), self.gaussian.size)
        for rows, _, solved, maps, own in self._solved(lack, spread, factors):
            for (block, map_), variance in zip(maps, own, strict=True):
                step = solved @ map_ * variance
                step = step if block.basis is None else step @ block.basis.T
                moved = moved.index_put((rows.unsqueeze(1), block.coordinates), step, accumulate=True)
        return moved

    def open(self, rows: Tensor, spread: Spread) -> Tensor:
        """Return what known values leave of differences of rows, ``(B, n)``: by :meth:`nearly`."""
        return rows - self.nearly(self.seen(self.gaussian.series(rows)).to(rows), spread)

    def nearly(self, lack: Tensor, spread: Spread, rounds: int | None = None) -> Tensor:
        """Return about what :meth:`move` does, of all series at once, whatever is known of each and at what variance.

        By conjugate gradients on all systems side by side, scaled by their diagonals, in the precision of ``lack``,
        blocks of one shape at once: with masks or variances of its own, each series would else have a system to be
        factored. A gradient is solved for by as many rounds of its own.

        Args:
            lack: ``y - A m`` of a mask, over all numbers, ``(B, N * M)``.
            spread: Variances ``c``.
            rounds: Of conjugate gradients; by default as many as a training step can afford.
        """
        assert self.mask is not None
        with torch.autocast(lack.device.type, enabled=False):
            return self._nearly(self.mask, lack, spread, rounds)

    def _nearly(self, mask: Tensor, lack: Tensor, spread: Spread, rounds: int | None) -> Tensor:
        moved, rows = lack.new_zeros(len(lack), self.gaussian.size), torch.arange(len(lack), device=lack.device)
        for blocks in self.gaussian.alike():
            entries = torch.stack([b.entries for b in blocks])
            coordinates = torch.stack([b.coordinates for b in blocks])
            design = torch.stack([b.design for b in blocks]).to(lack)
            variance = torch.stack([spread(b) for b in blocks]).to(lack)
            seen = mask[:, entries].transpose(0, 1).to(lack)
            diagonal = seen * (variance @ design.square().mT)
            size = diagonal.sum(2, keepdim=True) / seen.sum(2, keepdim=True).clamp(min=1)
            wrong = seen * lack[:, entries].transpose(0, 1)
            solved: Any = Solved.apply(
                wrong, rounds or affordable(design.shape[1]), seen, design, variance, diagonal, size
            )
            step = solved @ design * variance
            if blocks[0].basis is not None:
                step = step @ torch.stack([b.basis for b in blocks if b.basis is not None]).to(lack).mT
            moved = moved.index_put((rows[:, None, None], coordinates), step.transpose(0, 1))
        return moved

    def weigh(self, lack: Tensor, spread: Spread) -> Tensor:
        """Return ``(A C Aᵀ + τ²)⁻¹`` of what is lacking, ``(B, k)``: what it is worth."""
        worth = torch.zeros_like(lack)
        for rows, columns, solved, _, _ in self._solved(lack, spread):
            worth = worth.index_put((rows.unsqueeze(1), columns), solved)
        return worth

    def _solved(
        self, lack: Tensor, spread: Spread, factors: list[Tensor] | None = None
    ) -> Iterator[tuple[Tensor, Tensor, Tensor, list[tuple[Block, Tensor]], list[Tensor]]]:
        """Yield rows, columns, the solution of their system, and the maps and variances that it is made of."""
        for number, group in enumerate(self.groups):
            maps, spreads = group.maps(), [spread(block) for block, _ in group.parts]
            shared = all(len(one) == 1 for one in spreads)
            for rows in [group.rows] if shared else group.rows.split(1):
                own = spreads if shared else [one.expand(len(lack), -1)[rows] for one in spreads]
                factor = factored(maps, own) if factors is None else factors[number]
                solved = torch.cholesky_solve(lack[rows][:, group.columns].T, factor).T
                yield rows, group.columns, solved, maps, own


def gaussian_of(codec: Codec) -> Gaussian:
    """Return the linear model of a codec, which is kept until the codec's statistics change."""
    now = tuple((b.data_ptr(), -1 if b.is_inference() else b._version) for b in codec.buffers())
    kept = codec.__dict__.get("_linear")
    if kept is None or kept[0] != now:
        with torch.inference_mode(False), torch.no_grad():  # so that gradients of others may go through it
            kept = codec.__dict__["_linear"] = (now, Gaussian(codec))
    return kept[1]
