"""One batch of calls, shared out over the processes of ``torch.distributed``."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from lightning_freqdiff.condition import Condition
from lightning_freqdiff.diffusion.score_function import ScoreFunction


def over_ranks(score: ScoreFunction, z: Tensor, t: Tensor, condition: Condition) -> Tensor:
    """Ask for rows ``(B, K, F)``, a share of them on each rank, and return all answers on all ranks."""
    ranks, rank = dist.get_world_size(), dist.get_rank()
    share = -(-len(z) // ranks)
    mine, part = slice(rank * share, (rank + 1) * share), z.new_zeros(share, *z.shape[1:])
    if len(z[mine]):
        part[: len(z[mine])] = score(z[mine], t[mine], condition.take(mine))
    answers = [torch.empty_like(part) for _ in range(ranks)]
    dist.all_gather(answers, part)
    return torch.cat(answers)[: len(z)]


def expect_same(z: Tensor) -> None:
    """Refuse ranks that do not draw the same samples."""
    if not (dist.is_available() and dist.is_initialized()):
        raise ValueError(
            "expected processes that torch.distributed has brought together, got one alone: set "
            "`sampling.solver.over_ranks` false"
        )
    mark = torch.stack([z.new_tensor(len(z)), z.sum()]).double()
    marks = [torch.empty_like(mark) for _ in range(dist.get_world_size())]
    dist.all_gather(marks, mark)
    if any(not torch.equal(one, mark) for one in marks):
        raise ValueError(
            "expected all processes to draw the same samples, got others: set `sampling.solver.over_ranks` false, or "
            "let each draw all of them"
        )
