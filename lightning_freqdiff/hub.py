"""Models as folders of plain files, on disk and on the Hugging Face Hub.

| file | what it holds |
|---|---|
| ``config.json`` | settings, what the model was trained on, and the hash of the weights |
| ``model.safetensors`` | weights, training statistics, and what was calibrated for caches |
| ``README.md`` | the model card, with the figures of the last evaluation and their pictures beside it |

Nothing in them is run when they are read, nothing is uploaded but by ``push_to_hub``, and nothing is fetched but for
the id of a repository.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Self

import safetensors.torch
from huggingface_hub import ModelHubMixin, snapshot_download
from safetensors import SafetensorError

from lightning_freqdiff import __version__
from lightning_freqdiff.card import OURS, write_card
from lightning_freqdiff.checkpoint import MARK, file_hash, weights_hash
from lightning_freqdiff.evaluation.findings import Findings
from lightning_freqdiff.files import replace_json, replacing
from lightning_freqdiff.keywords import spelt
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.outputs import claim, make_folder

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
CALIBRATION = "calibration."
"""Put before the names of what was calibrated, among the weights."""
REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*")
"""Id of a repository, a user and a name."""


def write_model(folder: Path, module: ScoreModule, findings: Findings | None = None) -> None:
    """Write a model as a folder, each file in one move.

    Args:
        folder: New, empty, or of an earlier model, which is replaced.
        module: The model.
        findings: What an evaluation of its samples found, for the card.

    Raises:
        ValueError: For a folder of something else.
        OSError: Where it cannot be written.
    """
    if MARK in _read_config(folder / CONFIG, lenient=True):  # of a model of ours, whatever was added to it
        make_folder(folder, "save_directory")
    else:
        claim(folder, "save_directory")
    calibration = {f"{CALIBRATION}{name}": value for name, value in module.score.calibration.items()}
    # Clones, since two names may share memory, which the format does not know.
    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in {**module.state_dict(), **calibration}.items()}
    with replacing(folder / WEIGHTS) as file:
        file.write(safetensors.torch.save(tensors, {"format": "pt"}))
    facts = {"version": __version__, **module.data_facts}
    replace_json(
        folder / CONFIG,
        {MARK: facts, "hyper_parameters": dict(module.hparams), "weights": weights_hash(module)},
    )
    card = folder / CARD
    if not card.exists() or OURS in card.read_text(encoding="utf-8", errors="replace"):
        write_card(card, module, findings)


def read_model(folder: Path) -> ScoreModule:
    """Read a model that :func:`write_model` wrote.

    Raises:
        FileNotFoundError: Where a file is missing.
        ValueError: For files that are damaged, of another project, or do not belong together.
    """
    config, path = _read_config(folder / CONFIG), folder / WEIGHTS
    if not path.is_file():
        raise FileNotFoundError(f"expected {CONFIG} and {WEIGHTS} in {folder}, got no {WEIGHTS}: set `path`")
    try:
        tensors = safetensors.torch.load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"expected whole weights, but {path} cannot be read ({' '.join(str(error).split())[:100]}): get it anew, "
            "or set `path` to another folder"
        ) from error
    calibration = {k.removeprefix(CALIBRATION): v for k, v in tensors.items() if k.startswith(CALIBRATION)}
    weights = {k: v for k, v in tensors.items() if not k.startswith(CALIBRATION)}
    with spelt(ckpt_path="path"):
        module = ScoreModule.restore({**config, "state_dict": weights}, path)
    if weights_hash(module) != config["weights"]:
        raise ValueError(
            f"expected the weights that {CONFIG} was written with, but those of {path} are others: get both anew, or "
            "set `path` to another folder"
        )
    module.score.calibration = calibration
    module.checkpoint_hash = file_hash(path)
    return module


def _read_config(path: Path, lenient: bool = False) -> dict[str, Any]:
    """Read a configuration of ours; whatever else is there is nothing to the lenient."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        if lenient:
            return {}
        raise FileNotFoundError(
            f"expected {CONFIG} and {WEIGHTS} in a folder, found no {CONFIG} in {path.parent}: set `path`"
        ) from error
    except (ValueError, OSError) as error:
        if lenient:
            return {}
        raise ValueError(f"expected {path} to be JSON, but it cannot be read: get it anew, or set `path`") from error
    if not isinstance(config, dict) or not {MARK, "hyper_parameters", "weights"} <= config.keys():
        if lenient:
            return {}
        raise ValueError(f"expected a model of lightning_freqdiff, but {path} is of another project: set `path`")
    return config


class Pretrained(ModelHubMixin, library_name="lightning_freqdiff", tags=["time-series", "diffusion"]):
    """What can be saved as a folder, and pushed to the Hub and pulled from it.

    Args:
        module: The model.
        checkpoint_path: The file that it comes from.
    """

    def __init__(self, module: ScoreModule, checkpoint_path: Path | None = None) -> None:
        self.module, self.checkpoint_path = module, checkpoint_path
        self.findings: Findings | None = None

    def save_pretrained(
        self, save_directory: str | Path, *, repo_id: str | None = None, push_to_hub: bool = False, **settings: Any
    ) -> str | None:
        """Save the model as a folder: ``config.json``, ``model.safetensors``, and a card.

        The card shows what the last ``evaluate`` found. A card that you edited, and took our line out of, stays.

        Args:
            save_directory: New, empty, or of an earlier model, which is replaced.
            repo_id: Id of the repository on the Hub; the folder's name if not given.
            push_to_hub: Whether to upload it as well. Nothing is uploaded unasked.
            **settings: Of ``push_to_hub``.

        Returns:
            The address of what was uploaded, if anything was.
        """
        folder = Path(save_directory).expanduser()
        write_model(folder, self.module, self.findings)
        # The mixin would keep our settings once more, and write a card of its own.
        settings = {k: v for k, v in settings.items() if k not in ("config", "model_card_kwargs")}
        return self.push_to_hub(repo_id or folder.name, **settings) if push_to_hub else None

    @classmethod
    def from_pretrained(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls, pretrained_model_name_or_path: str | Path, **settings: Any
    ) -> Self:
        """Load a model from a folder, or from the Hub.

        Args:
            pretrained_model_name_or_path: A folder that ``save_pretrained`` wrote, or the id of a repository,
                ``user/name``.
            **settings: For a repository: ``revision``, ``token``, ``cache_dir``, ``force_download``,
                ``local_files_only``.

        Raises:
            FileNotFoundError: Where there is neither.
            ValueError: For files that are damaged or of another project.
        """
        given = str(pretrained_model_name_or_path)
        folder = Path(given).expanduser()
        if not folder.is_dir():
            if folder.exists() or not REPOSITORY.fullmatch(given):
                raise FileNotFoundError(
                    f"expected a folder, or the id of a repository such as user/name, got {given!r}"
                )
            folder = _fetch(given, settings)
        return cls(read_model(folder), folder / WEIGHTS)


def _fetch(repository: str, settings: dict[str, Any]) -> Path:
    """Fetch the files of a model that are not in the Hub's cache yet, and return their folder."""
    try:
        return Path(snapshot_download(repository, allow_patterns=[CONFIG, WEIGHTS], **settings))
    except OSError as error:  # of which the Hub's are some
        reason = " ".join(str(error).split())[:200]
        raise OSError(
            f"expected a folder, or a repository that can be reached, got {repository!r} ({reason})"
        ) from error
