"""Reading a checkpoint safely, and writing components down as plain settings."""

from __future__ import annotations

import hashlib
import pickle
import warnings
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

MARK = "lightning_freqdiff"
"""The key under which a checkpoint says that it is ours, and what it was trained on."""


def as_settings(component: Any) -> dict[str, Any]:
    """Write a component (SDE, architecture, solver, cache ...) as ``class_path`` and ``init_args``.

    Examples:
        >>> from lightning_freqdiff.diffusion.sde import VP
        >>> as_settings(VP())["init_args"]
        {'beta_min': 0.1, 'beta_max': 20.0}
    """
    if not is_dataclass(component) or isinstance(component, type):
        raise ValueError(
            f"expected a dataclass instance, got {component!r}: a component must be a (frozen) dataclass, so "
            "that its settings can be kept in the checkpoint"
        )
    kind = type(component)
    return {"class_path": f"{kind.__module__}.{kind.__qualname__}", "init_args": asdict(component)}


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Load a checkpoint of this project on the CPU, without running any code it may carry.

    Raises:
        FileNotFoundError: Where there is no such file.
        ValueError: For a file that is cut short, is no checkpoint, or belongs to another project.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"expected a checkpoint file, found none at {path}: set `ckpt_path`")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch comments on odd files; the errors below say what matters
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"expected a checkpoint of plain tensors and settings, but {path} holds other objects, which are not "
            "loaded for safety: set `ckpt_path` to a checkpoint made by lightning_freqdiff"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise ValueError(
            f"expected a whole checkpoint, but {path} cannot be read (cut short, or not a checkpoint): "
            "set `ckpt_path` to another file"
        ) from error
    whole = isinstance(content, dict) and {"hyper_parameters", "state_dict", MARK} <= content.keys()
    if not whole:
        raise ValueError(
            f"expected a checkpoint of lightning_freqdiff, but {path} belongs to another project: "
            "set `ckpt_path` to a checkpoint made by `python -m lightning_freqdiff fit`"
        )
    return content


def weights_hash(module: nn.Module) -> str:
    """Return the SHA-256 of a module's weights and buffers: equal for equal models, whatever file they came from."""
    return tensors_hash(module.state_dict())


def tensors_hash(tensors: dict[str, torch.Tensor]) -> str:
    """Return the SHA-256 of named tensors, whatever their order."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def file_hash(path: str | Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
