"""Checkpoints: read safely, in the names of today; components as plain settings; what ``calibrate`` fitted.

What ``calibrate`` fitted lies beside a checkpoint, in plain arrays with the hash of the weights that they belong to:

| name | for | what |
|---|---|---|
| ``teacache.polynomial`` | TeaCache | coefficients, highest power first, ``(5,)`` |
| ``fastcache.weight.i``, ``fastcache.bias.i`` | FastCache | linear map of block ``i``, ``(d, d)`` and ``(d,)`` |
| ``magcache.log_magnitude`` | MagCache | logarithm of the residual's mean magnitude by time from 0 to 1, ``(n,)`` |
| ``moments.KIND`` | SVDCache | second moments of what may be kept of a call, ``(d, d)`` |
| ``l2c.times``, ``l2c.places``, ``l2c.gaps`` | L2C | a teacher's times; which were looked at; steps apart |
| ``l2c.products`` | L2C | how errors of layers that repeat themselves go together, ``(gaps, places, L, L)`` |
| ``l2p.times``, ``l2p.gram.KIND`` | L2P | increasing times, ``(T,)``, and mean products of features, ``(T, T)`` |
| ``l2p.ridge.KIND`` | L2P | the penalty that does best on samples left out |
| ``low_bit.LAYER`` | Quantize | lower and upper end of a layer's input, ``(2,)``; see ``evaluation/ranges.py`` |
| ``wiener.rate`` | Wiener | local error of a stretch by time from 0 to 1, ``(n,)``; see ``caching/local_error.py`` |
| ``wiener.damage`` | Wiener | times, and what stretches do to samples, ``(2, n)``; ``evaluation/stretches.py`` |
| ``grid.times`` | tuned grids | times that such grids are chosen from, decreasing, ``(T + 1,)`` |
| ``grid.costs`` | tuned grids | damage of a jump from time to time, ``(T + 1, T + 1)``; ``evaluation/jumps.py`` |
| ``steps.n.times`` | Fitted | times that ``n`` steps are between, ``(n + 1,)``; ``evaluation/fitting.py`` |
| ``steps.n.weights`` | Fitted | what they are made of, ``(n, 5, size)``; ``sampling/solvers/fitted.py`` |
"""

from __future__ import annotations

import hashlib
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lightning_freqdiff.files import read_arrays, replace_arrays
from lightning_freqdiff.outputs import make_folder

MARK = "lightning_freqdiff"
"""The key under which a checkpoint says that it is ours, and what it was trained on."""

DISTILLED = "distilled"
"""The note on a model that was distilled: into how many calls."""

RENAMED = {"parametrization": {"noise": "eps", "clean": "x0"}, "weighting": {"noise": "eps"}}
MOVED = {
    "lightning_freqdiff.sde": "lightning_freqdiff.diffusion",
    "lightning_freqdiff.networks.transformer": "lightning_freqdiff.networks",
    "lightning_freqdiff.networks.lstm": "lightning_freqdiff.networks",
    "lightning_freqdiff.networks.mlp": "lightning_freqdiff.networks",
}
STATISTICS = {
    "score.standardizer.mean": "score.codec.mean",
    "score.standardizer.scale": "score.codec.scale",
    "score.standardizer.variance": "score.codec.variance",
    "score.codec.active": "score.codec.variance",
}
"""Names of older versions: settings, rooms, statistics."""

SHOWN = 120
"""Letters that are shown of PyTorch's list of weights that do not fit."""

CALIBRATION = ".calibration.npz"
"""How the names of calibrations end."""

WEIGHTS = "weights"
"""The array of a calibration that holds the hash of the weights."""


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
    translate(content)
    return content


def read_step(path: str | Path) -> int:
    """Return the step at which a checkpoint was saved, at no cost however large it is: its tensors are not read."""
    return int(torch.load(path, map_location="cpu", weights_only=True, mmap=True)["global_step"])


def translate(checkpoint: dict[str, Any]) -> None:
    """Put what older versions wrote into the names of today, in place; nothing happens to newer checkpoints."""
    settings = checkpoint.get("hyper_parameters", {})
    for key, names in RENAMED.items():
        settings.update({key: names.get(settings[key], settings[key])} if key in settings else {})
    if settings and "colour" not in settings:  # before the noise had a colour, and transformers adaptive norms
        settings["colour"] = "equal"
        network = settings.get("network") or {}
        if network.get("class_path", "").endswith(".Transformer") and network["init_args"].get("preset") == "small":
            network["init_args"]["preset"] = "plain"
    network = settings.get("network") or {}
    if network.get("class_path", "").endswith(".UNet"):
        network["init_args"].setdefault("margin", 0)  # before series were held on beyond their ends
    if settings:
        settings.setdefault("logarithm", "never")  # before there were any
    if settings and "covariance" not in settings:  # before the linear part knew of more than one coordinate
        settings["covariance"] = "diagonal"
    state = checkpoint.get("state_dict") or {}
    linear = settings.get("parametrization") in ("wiener", "steps") and settings["covariance"] == "joint"
    if linear and not any(".directions." in name for name in state):
        settings["covariance"] = "diagonal"  # before it was taken channel by channel, where all would be too many
    for component in (settings.get("network"), settings.get("sde")):
        if isinstance(component, dict):
            room, _, name = component["class_path"].rpartition(".")
            component["class_path"] = f"{MOVED.get(room, room)}.{name}"
    for weights in ("state_dict", "current_model_state", "averaging_state"):
        state = checkpoint.get(weights)
        for name in [name for name in state or () if name.endswith(tuple(STATISTICS))]:
            old = next(old for old in STATISTICS if name.endswith(old))
            state[name.removesuffix(old) + STATISTICS[old]] = state.pop(name)  # pyright: ignore
        for name in [name for name in state or () if name.endswith("correction.slope")]:
            trust, power = name.removesuffix("slope") + "trust", name.removesuffix("correction.slope")
            state.setdefault(name.removesuffix("slope") + "kept", torch.ones(len(state[name])))  # pyright: ignore
            if trust not in state:  # pyright: ignore
                state[trust] = torch.ones(len(state[name]), len(state[power + "codec.directions.power"]))  # pyright: ignore


def load_weights(model: nn.Module, checkpoint: dict[str, Any], path: str | Path) -> None:
    """Load the weights of a checkpoint, or say in one line why they are of no use.

    Raises:
        ValueError: Where names or shapes are not the model's, or where a weight is no number.
    """
    state = checkpoint["state_dict"]
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        _, _, reason = " ".join(str(error).split()).partition(": ")  # behind the name of the class
        raise ValueError(
            f"expected weights of this version's model, but {path} was written by version "
            f"{checkpoint[MARK].get('version')} and does not fit ({reason[:SHOWN]}): set `ckpt_path` to another one, "
            "or train again"
        ) from error
    spoilt = [name for name, value in state.items() if not value.isfinite().all()]
    if spoilt:
        raise ValueError(
            f"expected weights of finite numbers, but {len(spoilt)} of {len(state)} tensors in {path} hold NaN or "
            f"infinity, such as {spoilt[0]}: set `ckpt_path` to another one, or train again"
        )


def weights_hash(module: nn.Module) -> str:
    """Return the SHA-256 of a module's weights and buffers: equal for equal models, whatever file they came from.

    A model without limits and logarithms, or that is believed all it says, has the hash that it had before there was
    anything else.
    """
    state = module.state_dict()
    without = [
        name.removesuffix("met") for name, value in state.items() if name.endswith("limits.met") and not value.any()
    ]
    without += [name for name, value in state.items() if name.endswith("correction.kept") and (value == 1).all()]
    logarithms = [name for name, value in state.items() if name.endswith("logarithm.taken") and not value.any()]
    without += [name.removesuffix("taken") for name in logarithms]
    return tensors_hash({name: value for name, value in state.items() if not name.startswith(tuple(without))})


def tensors_hash(tensors: dict[str, Tensor]) -> str:
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


def calibration_path(checkpoint: str | Path) -> Path:
    """Return where the calibration of a checkpoint lies: ``best.ckpt`` has ``best.calibration.npz``."""
    return Path(checkpoint).with_suffix(CALIBRATION)


def check_calibration_path(path: Path) -> None:
    """Refuse a place for a calibration where something else lies, before any work.

    Raises:
        ValueError: Where the name does not end in ``.npz``, or a file of that name is no calibration.
        OSError: Where the folder cannot be written to.
    """
    if path.suffix != ".npz":
        raise ValueError(f"expected a file name ending in .npz, got {path}: set `output`")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"expected a folder to write to, found none at {path.parent}: set `output`")
    make_folder(path.parent, "output")
    if not path.exists():
        return
    try:
        names, _ = read_arrays(path, [WEIGHTS])
    except (ValueError, FileNotFoundError):
        names = [WEIGHTS] if path.is_file() and path.name.endswith(CALIBRATION) else []  # ours, cut short
    if WEIGHTS not in names:
        raise ValueError(f"expected a new file, or a calibration to replace, but {path} is neither: set `output`")


def write_calibration(path: Path, fitted: dict[str, Tensor], weights: str) -> None:
    """Write what was fitted in one move, so that a reader never meets half of it."""
    arrays = {name: value.cpu().numpy() for name, value in fitted.items()}
    try:
        replace_arrays(path, {**arrays, WEIGHTS: np.array(weights)})
    except OSError as error:
        raise OSError(f"cannot write the calibration {path} ({error.strerror}): set `output`") from error


def read_calibration(path: Path, weights: str) -> dict[str, Tensor]:
    """Read what was fitted; nothing, with a warning, where the file is damaged or belongs to other weights.

    Args:
        path: The file; nothing is returned where there is none.
        weights: Hash of the weights in use.
    """
    if not path.is_file():
        return {}
    try:
        _, arrays = read_arrays(path)
    except ValueError:
        warnings.warn(f"{path} cannot be read and is left out: run calibrate again", stacklevel=2)
        return {}
    if str(arrays.pop(WEIGHTS, "")) != weights:
        warnings.warn(f"{path} was fitted to other weights and is left out: run calibrate again", stacklevel=2)
        return {}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}
