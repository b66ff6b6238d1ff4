"""Published files: fetched when the user asks for it, and kept so that a half-written file is never met."""

import errno
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from lightning_freqdiff.files import replace_arrays


def fetch(handle: str, by_hand: Path) -> Path:
    """Download a data set of Kaggle, or find what was downloaded before; its files are yet to be checked.

    Args:
        handle: Owner and name at Kaggle.
        by_hand: Where its files may be put without a network, for the error message.

    Returns:
        The folder of its files, in kagglehub's own cache.
    """
    instead = f"or put the files of https://www.kaggle.com/datasets/{handle} into {by_hand}"
    try:
        import kagglehub
    except ImportError as error:
        raise ImportError(
            "`data.download` true needs kagglehub, which is not installed; "
            f'pip install "lightning-freqdiff[kaggle]", {instead} and leave `data.download` out'
        ) from error
    try:
        return Path(kagglehub.dataset_download(handle))
    except Exception as error:  # no network, no account, a broken archive: kagglehub has no class for all of it
        reason = " ".join(str(error).split())
        reason = reason if len(reason) < 200 else f"{reason[:200]} ..."
        full = isinstance(error, OSError) and error.errno == errno.ENOSPC
        remedy = "make room (KAGGLEHUB_CACHE says where downloads go)" if full else "mend that and try again"
        raise OSError(
            f"expected to download {handle} from Kaggle, got {type(error).__name__}: {reason}; {remedy}, {instead}"
        ) from error


def store(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write arrays to a `.npz`, so that there is the file of before or the whole new one, and nothing between."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_arrays(path, arrays)
    except OSError as error:
        raise OSError(
            f"expected to keep the prepared series in {path}, got {error.strerror or error}; make room there, or "
            "set `data.folder` (or FREQDIFF_CACHE) to a folder with room"
        ) from error


def fingerprint(files: Iterable[Path], root: Path) -> str:
    """Return a hash of the names, sizes and times of files, which tells when they were exchanged."""
    seen = []
    for file in files:
        facts = file.stat()
        seen.append((str(file.relative_to(root)), facts.st_size, facts.st_mtime_ns))
    return hashlib.sha256(json.dumps(sorted(seen)).encode()).hexdigest()
