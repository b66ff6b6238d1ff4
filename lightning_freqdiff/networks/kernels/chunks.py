"""A batch in pieces whose activations fit a processor's caches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


def in_pieces(run: Callable[..., T], size: int, *inputs: Any) -> T:
    """Return ``run(*inputs)``, worked out for ``size`` samples at a time.

    Args:
        run: What is done; samples must not know of each other.
        size: Samples in a piece.
        inputs: Tensors with samples along the first axis, or lists and tuples of such. What ``run`` returns is
            of that kind, too.
    """
    pieces = _split(inputs, size)
    return run(*inputs) if len(pieces) == 1 else _join([run(*piece) for piece in pieces])


def _split(value: Any, size: int) -> list[Any]:
    if isinstance(value, Tensor):
        return list(value.split(size))
    return [list(parts) for parts in zip(*(_split(v, size) for v in value), strict=True)]


def _join(parts: list[Any]) -> Any:
    if isinstance(parts[0], Tensor):
        return torch.cat(parts)
    return type(parts[0])(_join(list(column)) for column in zip(*parts, strict=True))
