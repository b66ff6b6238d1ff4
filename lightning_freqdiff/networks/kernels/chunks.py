"""A batch in chunks whose activations fit a processor's caches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


def chunked(run: Callable[..., T], size: int, *inputs: Any) -> T:
    """Return ``run(*inputs)``, worked out for ``size`` samples at a time.

    Args:
        run: What is done; samples must not know of each other.
        size: Samples in a chunk.
        inputs: Tensors with samples along the first axis, ``None``, or lists and tuples of such. What ``run``
            returns is of that kind, too.
    """
    chunks = _split(inputs, size)
    return run(*inputs) if len(chunks) < 2 else _join([run(*chunk) for chunk in chunks])


def _split(value: Any, size: int) -> list[Any]:
    """Cut tensors along the first axis; an empty list stands for ``None``, of which every chunk has the same."""
    if value is None:
        return []
    if isinstance(value, Tensor):
        return list(value.split(size))
    parts = [_split(v, size) for v in value]
    most = max(map(len, parts), default=0)
    return [[part[i] if part else None for part in parts] for i in range(most)]


def _join(parts: list[Any]) -> Any:
    if isinstance(parts[0], Tensor):
        return torch.cat(parts)
    return type(parts[0])(_join(list(column)) for column in zip(*parts, strict=True))
