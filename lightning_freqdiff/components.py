"""Components (SDE, architecture, solver, cache ...) as plain settings, and by the names that they are known by."""

from __future__ import annotations

import sys
from dataclasses import asdict, is_dataclass
from typing import Any


def as_settings(component: Any) -> dict[str, Any]:
    """Write a component (SDE, architecture, solver, cache ...) as ``class_path`` and ``init_args``.

    The path is that of the room which exports the class, so that files may move within it.

    Examples:
        >>> from lightning_freqdiff.diffusion import VP
        >>> as_settings(VP())
        {'class_path': 'lightning_freqdiff.diffusion.VP', 'init_args': {'beta_min': 0.1, 'beta_max': 20.0}}
    """
    if not is_dataclass(component) or isinstance(component, type):
        raise ValueError(
            f"expected a dataclass instance, got {component!r}: a component must be a (frozen) dataclass, so "
            "that its settings can be kept in the checkpoint"
        )
    kind = type(component)
    room = kind.__module__.rpartition(".")[0]
    exported = getattr(sys.modules.get(room), kind.__qualname__, None) is kind
    return {
        "class_path": f"{room if exported else kind.__module__}.{kind.__qualname__}",
        "init_args": asdict(component),
    }
