"""Reading and writing safely: arrays without pickles, and no half of a text, a table or an archive under its name."""

from __future__ import annotations

import csv
import errno
import json
import math
import os
import tokenize
import uuid
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

# What a damaged or encrypted file makes numpy and zipfile raise.
DAMAGE = (
    ValueError,
    EOFError,
    OSError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
    tokenize.TokenError,
    SyntaxError,
)


CACHE = "~/.cache/lightning_freqdiff"
"""What is kept between runs, where nothing else is said."""


def cache_root(folder: str | None) -> Path:
    """Return the folder of what is kept between runs: the one named, else $FREQDIFF_CACHE, else one of the user's.

    >>> cache_root("here").name
    'here'
    """
    return Path(folder or os.environ.get("FREQDIFF_CACHE") or CACHE).expanduser()


@contextmanager
def replacing(path: Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a file that takes the place of `path` in one move when all of it is written.

    What was there stays where that fails, and nothing else does. Of several processes that write the same file, the
    last one's stays.

    Args:
        path: The file to be; its folder must be there.
        mode: `wb`, or `w` for UTF-8 with line ends as they are written.

    Raises:
        OSError: Naming `path`, where it cannot be written.
    """
    # In the same folder, for the move to be one; tempfile's would be for one user alone.
    partial = path.with_name(f".{path.name}-{uuid.uuid4().hex}.partial")
    try:
        with partial.open(mode) if "b" in mode else partial.open(mode, encoding="utf-8", newline="") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # else a crash of the machine could leave the name with nothing in the file
        partial.replace(path)
    except OSError as error:
        if error.filename is not None and str(error.filename) != str(partial):
            raise  # about another file, which is read meanwhile
        raise OSError(error.errno or errno.EIO, error.strerror or str(error), str(path)) from error
    finally:
        partial.unlink(missing_ok=True)


def replace_text(path: Path, text: str) -> None:
    """Write text in one move."""
    with replacing(path, "w") as file:
        file.write(text)


def replace_json(path: Path, content: Any) -> None:
    """Write plain values in one move; what is not a finite number is null."""
    replace_text(path, json.dumps(plain(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def replace_csv(path: Path, names: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write the named entries of rows in one move, as a table with a header."""
    with replacing(path, "w") as file:
        writer = csv.DictWriter(file, names, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def replace_arrays(path: Path, arrays: Mapping[str, np.ndarray], compress: bool = False) -> None:
    """Write a `.npz` in one move."""
    save = np.savez_compressed if compress else np.savez
    with replacing(path) as file:
        save(file, allow_pickle=False, **arrays)  # pyright: ignore[reportArgumentType]


def plain(value: Any) -> Any:
    """Replace NaN and infinities, which JSON does not know, by null."""
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_arrays(path: Path, wanted: Iterable[str] | None = None) -> tuple[list[str], dict[str, np.ndarray]]:
    """Return the names of all arrays in a `.npz`, and those that are wanted, or all; the array of a `.npy` is `x`."""
    if not path.is_file():
        found = "a folder" if path.is_dir() else "nothing"
        raise FileNotFoundError(f"expected a file, found {found} at {path.absolute()}; mend `data.path`")
    # Opened here, because np.load leaves a file open that turns out to be no zip archive.
    with path.open("rb") as file:
        try:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return ["x"], {"x": loaded}
            with loaded as archive:
                keys = archive.files
                chosen = keys if wanted is None else wanted
                return keys, {key: np.asarray(archive[key]) for key in chosen if key in keys}
        except DAMAGE as error:
            raise damaged(path, error) from error


def damaged(path: Path, error: BaseException) -> ValueError:
    """Say what is wrong with a file that NumPy could not read."""
    reason = " ".join(str(error).split())
    if "Object arrays" in reason or "Python objects" in reason:
        return ValueError(
            f"{path}: expected numbers, got pickled Python objects, which are not loaded because unpickling can run "
            "code; in the file of `data.path` store floats, and names as strings"
        )
    return ValueError(
        f"{path}: expected NumPy's own format, got a file that is damaged, cut short or pickled ({reason}); write it "
        "anew with np.savez or np.save, delete it if it lies in the cache, or mend `data.path`"
    )
