"""Sets of an evaluation that lie in many files, or in a store: read from where they are, no more than is compared."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from lightning_freqdiff.data import Series
from lightning_freqdiff.data.base import REFERENCE_BYTES
from lightning_freqdiff.data.readers.litdata import is_litdata
from lightning_freqdiff.data.readers.opening import open_shards
from lightning_freqdiff.data.readers.parquet import has_lists
from lightning_freqdiff.data.readers.shards import Part
from lightning_freqdiff.shards import SampleSet, Store, read_samples
from lightning_freqdiff.shards.dataset import RUN
from lightning_freqdiff.shards.store import is_url


def local(path: str, role: str) -> str:
    """Return the path of a URL that is one, such as ``file:///data/made.npy``; others, and paths, as they are."""
    if not is_url(path):
        return str(Path(path).expanduser())
    store = Store(path, role)
    return str(store.local_path) if store.local else path


def read_stored(path: str, role: str) -> Series | None:
    """Read a data set of many files: that of a run, Parquet with lists, or LitData; ``None`` for everything else.

    Of more than 1 GiB, the first samples of a run are read, and groups in random order of other sets.

    Args:
        path: A path or a URL.
        role: What the set is called, for errors.

    Raises:
        ValueError: Where a run is not finished, or files are of no use.
    """
    if not is_url(path) and not Path(path).exists():
        return None
    store = Store(path, role)
    folder = store.again(lambda: store.fs.isdir(store.root))
    if folder and RUN in store.names():
        samples = SampleSet(path, role)
        samples.read()
        steps, channels = samples.encoding.shape[1:]
        x = read_samples(path, stop=max(2, REFERENCE_BYTES // (4 * steps * channels)))
        return Series(x, None, tuple(samples.encoding.channels), path)
    if not (is_litdata(store) or (has_lists(store) if store.local else folder)):
        return None
    shards = open_shards(path)
    most = max(2, REFERENCE_BYTES // (4 * shards.length * len(shards.channels)))
    return Series(Part(shards, shards.pieces).some(most, 0).numpy(), None, shards.channels, path)


@contextmanager
def fetched(path: str, role: str) -> Iterator[Path]:
    """Give the path of a file for the time it is read, of a store its copy."""
    if not is_url(path):
        yield Path(path)
        return
    above, _, name = path.rstrip("/").rpartition("/")
    with TemporaryDirectory() as folder:
        copy = Path(folder) / name
        try:
            copy.write_bytes(Store(above, role).read(name))
        except FileNotFoundError as error:
            raise FileNotFoundError(f"expected series, found nothing at {path}: set `{role}`") from error
        yield copy
