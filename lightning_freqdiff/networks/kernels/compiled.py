"""Parts of a network behind ``torch.compile``, for sampling: few operations, few sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lightning_freqdiff.condition import Condition

FEW = 2
"""Samples up to which compiling pays on a CPU: with more, ``cpu.py`` is as fast, and needs no compiler."""


class Compiled:
    """A function of samples, compiled for each of a few batch sizes; as CUDA graphs on a GPU.

    A batch is filled up to the next power of two, so that samples gathered by a cache do not ask for a graph for
    every number of them. The results are those of the plain function to rounding.

    Args:
        run: Takes tensors with samples along the first axis, lists of such, scalars, a condition or ``None``; returns
            tensors with samples along the first axis, or tuples and lists of such.
    """

    def __init__(self, run: Callable[..., Any]) -> None:
        self.run, self._sizes = run, {}

    def __getstate__(self) -> dict[str, Any]:
        """Leave the compiled code behind in copies, which have weights of their own."""
        return {"run": self.run, "_sizes": {}}

    def __call__(self, *inputs: Any) -> Any:
        """Run on however many samples."""
        first = inputs[0]
        count, on_gpu = len(first), first.device.type == "cuda"
        if not count or (first.is_cpu and count > FEW):
            return self.run(*inputs)
        size = 2 ** (count - 1).bit_length()
        shape = (size, *first.shape[1:])
        if shape not in self._sizes:
            frame, mode = _frame(self.run, len(self._sizes)), "reduce-overhead" if on_gpu else None
            self._sizes[shape] = torch.compile(frame, dynamic=False, mode=mode)
        if on_gpu:
            torch.compiler.cudagraph_mark_step_begin()
        out = self._sizes[shape](*_fill(inputs, size - count))
        return _cut(out, count, on_gpu)  # a graph writes into the same memory when it is run again


def _frame(run: Callable[..., Any], number: int) -> Callable[..., Any]:
    """Wrap a function in code of its own: PyTorch limits how often it compiles the same code."""

    def frame(*inputs: Any) -> Any:
        return run(*inputs)

    frame.__code__ = frame.__code__.replace(co_name=f"size_{number}")
    return frame


def _fill(value: Any, missing: int) -> Any:
    """Append copies of the first sample."""
    if value is None or isinstance(value, Condition):
        return value.followed_by(value.take(torch.zeros(missing, dtype=torch.long))) if value and missing else value
    if not isinstance(value, Tensor):
        return [_fill(entry, missing) for entry in value]
    if not missing or not value.ndim:
        return value
    return torch.cat([value, value[:1].expand(missing, *value.shape[1:])])


def _cut(value: Any, count: int, copy: bool) -> Any:
    """Take the samples that were asked for."""
    if isinstance(value, Tensor):
        return value[:count].clone() if copy else value[:count]
    return type(value)(_cut(entry, count, copy) for entry in value)
