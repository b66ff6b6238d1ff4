"""A data set of samples on a store, which any number of workers fill that need not know of each other.

    run.json                             what was drawn, with which settings
    shard=00000/000000000000.parquet     a unit: samples 0 to B - 1
    _units/shard=00000/000000000000-766123-0f3a...   its entry: bytes and SHA-256 of the file, in the name
    _units/shard=00000/000000004096-claimed-9d1c...  a worker's word that it is drawing this one, until it has

A unit is a fixed range of samples of the run's seed, whoever draws it: workers that draw the same one write the same
bytes under the same name, and a file takes its place whole. Its entry follows the file, so what is listed is there.
The list of the entries is the manifest: nobody appends to a file, nothing is locked and no clock is asked. A claim
binds nobody: others leave its unit for last, and draw it all the same if it does not come.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lightning_freqdiff.files import plain
from lightning_freqdiff.outputs import check_identity, make_folder
from lightning_freqdiff.shards.formats import FORMATS, Encoding, check_format
from lightning_freqdiff.shards.store import Store

RUN = "run.json"
PARTITION = 1000
"""Units in a Hive partition, and entries that are listed together: what an object store lists in one answer."""

CLAIMED = "claimed"


@dataclass(frozen=True)
class Entry:
    """What is known of the file of a unit that is done."""

    size: int
    digest: str

    @classmethod
    def of(cls, content: bytes) -> Entry:
        """Describe the content of a file."""
        return cls(len(content), hashlib.sha256(content).hexdigest()[:16])


class SampleSet:
    """A data set of samples at a URL.

    Args:
        url: The folder it is in.
        setting: What names it, in Python terms, for errors.
    """

    def __init__(self, url: str, setting: str = "sampling.output") -> None:
        self.store = Store(url, setting)
        self.encoding: Encoding
        self.run: dict[str, Any] = {}

    @property
    def num_samples(self) -> int:
        """Samples that the data set is to hold."""
        return self.encoding.shape[0]

    @property
    def units(self) -> int:
        """Units that it is made of."""
        return math.ceil(self.num_samples / self.encoding.size)

    def open(
        self, identity: dict[str, Any], shape: tuple[int, int, int], size: int, format: str, channels: Sequence[str]
    ) -> None:
        """Start the data set of this identity, or join those who fill it.

        Args:
            identity: Everything that the samples depend on.
            shape: ``(n, N, M)``.
            size: Samples in a unit.
            format: Of the files.
            channels: Names of the channels.

        Raises:
            ValueError: Where the folder holds another run, or something else.
            OSError: Where it cannot be written to.
        """
        check_format(format)
        if {"sample", "shard"} & set(channels) and format == "parquet":
            raise ValueError(
                "expected no channel called sample or shard in Parquet: set `sampling.format` npy or zarr"
            )
        store, run = self.store, {"shape": list(shape), "batch_size": size, "format": format}
        if store.local:
            make_folder(store.local_path, store.setting)
        found = store.names()
        if RUN not in found:
            if foreign := [name for name in found if not name.startswith(".")]:
                raise ValueError(
                    f"expected an empty output folder, but {store.url} holds {', '.join(foreign[:3])}"
                    f"{' and more' if len(foreign) > 3 else ''}: set `{store.setting}` to another folder"
                )
            content = {**run, "channels": list(channels), "identity": plain(identity)}
            store.create(RUN, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())
        self.read()  # one's own, or that of who was first
        before = {**{name: self.run[name] for name in run}, **self.run["identity"]}
        check_identity(store.url, before, {**run, **identity}, store.setting)
        for name, content in self.encoding.head().items():
            store.create(name, content)

    def read(self) -> None:
        """Read what the data set is to hold.

        Raises:
            ValueError: Where there is none, or its description is damaged.
        """
        store = self.store
        try:
            self.run = run = json.loads(store.read(RUN))
            shape, size, channels = tuple(run["shape"]), run["batch_size"], run["channels"]
            made, _ = FORMATS[run["format"]](shape, size, channels), run["identity"]
        except FileNotFoundError as error:
            raise ValueError(
                f"expected a data set of samples, with its {RUN}, found none at {store.url}: set `{store.setting}`"
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{store.url}/{RUN} is damaged: put it back, or set `{store.setting}` to another folder"
            ) from error
        self.encoding = made

    def put(self, unit: int, series: np.ndarray) -> None:
        """Write the samples of a unit, ``(count, N, M)``, and then its entry."""
        content = self.encoding.encode(unit, series)
        entry = Entry.of(content)
        self.store.write(self.encoding.name(unit, _partition(unit)), content)
        self.store.write(f"{self._listed(unit)}-{entry.size}-{entry.digest}", b"")

    def claim(self, unit: int, worker: str) -> None:
        """Say that a worker is drawing a unit."""
        self.store.write(f"{self._listed(unit)}-{CLAIMED}-{worker}", b"")

    def release(self, unit: int, worker: str) -> None:
        """Take that back."""
        self.store.remove(f"{self._listed(unit)}-{CLAIMED}-{worker}")

    def look(self, unit: int) -> tuple[bool, bool]:
        """Tell, in one look at the store, whether a unit is done, and whether a worker says that it is drawing it."""
        kinds = {kind for _, kind, _ in self._listing(unit, unit + 1)}
        return any(kind.isdecimal() for kind in kinds), CLAIMED in kinds

    def tidy(self, start: int, stop: int) -> None:
        """Remove what workers that are gone have claimed of the units ``[start, stop)``."""
        for unit, kind, worker in self._listing(start, stop):
            if kind == CLAIMED:
                self.release(unit, worker)

    def entries(self, start: int, stop: int) -> dict[int, list[Entry]]:
        """Return the entries of the units ``[start, stop)`` that are done, by unit.

        Kinds of machine that round differently leave several of one unit; its file is of one of them.
        """
        found: dict[int, list[Entry]] = {}
        for unit, size, digest in self._listing(start, stop):
            if size.isdecimal():
                found.setdefault(unit, []).append(Entry(int(size), digest))
        return found

    def _listing(self, start: int, stop: int) -> Iterator[tuple[int, str, str]]:
        """Go through what is noted of the units ``[start, stop)``: the unit, and the two parts after it."""
        for partition in range(start // PARTITION, -(-stop // PARTITION)):
            for name in self.store.names(f"_units/{_partition(partition * PARTITION)}"):
                first, kind, rest = (*name.split("-"), "", "")[:3]
                if first.isdecimal() and start <= int(first) // self.encoding.size < stop:
                    yield int(first) // self.encoding.size, kind, rest

    def _listed(self, unit: int) -> str:
        """Return how the names of what is noted of a unit begin."""
        return f"_units/{_partition(unit)}/{unit * self.encoding.size:012d}"

    def missing(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Return the numbers of the units in ``[start, stop)`` that are not done, in order."""
        stop = self.units if stop is None else stop
        todo = np.ones(stop - start, dtype=bool)  # what is remembered of a unit is one byte
        for partition in range(start // PARTITION, -(-stop // PARTITION)):
            within = max(start, partition * PARTITION), min(stop, (partition + 1) * PARTITION)
            todo[np.array([*self.entries(*within)], dtype=np.int64) - start] = False
        return np.flatnonzero(todo) + start

    def place(self, unit: int) -> str:
        """Return where the file of a unit lies, as the store's file system knows it."""
        return self.store.place(self.encoding.name(unit, _partition(unit)))

    def get(self, unit: int, entries: Sequence[Entry]) -> np.ndarray:
        """Return the samples of a unit, ``(count, N, M)``.

        Raises:
            ValueError: Where its file is not what its entries say.
        """
        name = self.encoding.name(unit, _partition(unit))
        wanted = (self.encoding.count(unit), *self.encoding.shape[1:])
        try:
            content = self.store.read(name)
            series = self.encoding.decode(unit, content)
            if series.shape != wanted:
                raise ValueError(f"expected series {wanted}, got {series.shape}")
            if Entry.of(content) not in entries:
                raise ValueError("it is not what was written")
        except (ValueError, FileNotFoundError) as error:
            reason = "it is not there" if isinstance(error, FileNotFoundError) else str(error)
            raise ValueError(
                f"{self.store.url}/{name} is of no use ({reason}): delete its entry below _units, and the command "
                "that drew the data set draws it again"
            ) from error
        return series


def _partition(unit: int) -> str:
    """Return the folder of a unit, named as Hive does."""
    return f"shard={unit // PARTITION:05d}"
