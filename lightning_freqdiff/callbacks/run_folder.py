"""A predict run on disk: samples, manifest, a journal of the units that are done, and what was measured meanwhile.

``samples.npy`` is reserved in full at the start and written through a memory map, so that ranks fill disjoint
rows and nothing has to fit in memory. A unit counts once its rows are flushed and a line about it stands in
the rank's journal; a run that was killed reads the journals and does the rest.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import IO, Any

import numpy as np

from lightning_freqdiff.files import replace_json, replacing
from lightning_freqdiff.outputs import check_identity, claim, make_folder

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None

Ranges = list[tuple[int, int]]
LOCK = ".lock"


def merge_ranges(ranges: Ranges) -> Ranges:
    """Merge overlapping and adjacent index ranges ``[start, stop)``.

    Examples:
        >>> merge_ranges([(4, 8), (0, 4), (10, 12)])
        [(0, 8), (10, 12)]
    """
    merged: Ranges = []
    for start, stop in sorted(ranges):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return merged


def missing_ranges(done: Ranges, total: int) -> Ranges:
    """Return what is left of ``[0, total)``.

    Examples:
        >>> missing_ranges([(2, 4)], 6)
        [(0, 2), (4, 6)]
    """
    edges = [0, *(edge for pair in merge_ranges(done) for edge in pair), total]
    return [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b]


class RunFolder:
    """The files of one predict run.

    Args:
        path: The folder.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.samples = self.path / "samples.npy"
        self.manifest = self.path / "manifest.json"
        self._locked: IO[str] | None = None

    def open(self, identity: dict[str, Any], shape: tuple[int, int, int]) -> None:
        """Start a run of this identity, or take one up that was interrupted. Called on one rank.

        Args:
            identity: Everything that the samples depend on.
            shape: ``(n, N, M)``.

        Raises:
            ValueError: Where the folder holds another run, or something else.
            OSError: Where it cannot be written, or the disk is too small for the samples.
        """
        make_folder(self.path, "sampling.output")
        self._lock()
        if self.manifest.exists():
            check_identity(self.path, self.read_manifest().get("identity", {}), identity, "sampling.output")
            if not self.samples.exists() and self.read_manifest()["status"] == "running":
                self._reserve(shape)  # killed between the manifest and the samples
            return
        claim(self.path, "sampling.output")
        self.write_manifest({"status": "running", "identity": identity})
        try:
            self._reserve(shape)
        except OSError:
            self.manifest.unlink()
            raise

    def _lock(self) -> None:
        """Keep a second process out of the folder until this one ends."""
        if fcntl is None:
            return
        self._locked = (self.path / LOCK).open("a")
        try:
            fcntl.flock(self._locked, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._locked.close()
            raise ValueError(
                f"another process is writing to the output folder {self.path}: wait for it, or set `sampling.output`"
            ) from error

    def release(self) -> None:
        """Let other processes in again."""
        if self._locked is not None and not self._locked.closed:
            (self.path / LOCK).unlink(missing_ok=True)
            self._locked.close()

    def _reserve(self, shape: tuple[int, int, int]) -> None:
        """Make ``samples.npy`` with all its blocks: a full disk then fails here and not in mid-run by SIGBUS."""
        need = 4 * math.prod(shape)
        header = {"descr": np.dtype(np.float32).str, "fortran_order": False, "shape": shape}
        try:
            with replacing(self.samples) as file:
                np.lib.format.write_array_header_1_0(file, header)
                size = file.tell() + need
                file.truncate(size)
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            raise OSError(
                f"cannot reserve {need / 2**20:.1f} MiB for the samples in {self.path} ({error.strerror}): free "
                "space, or set `sampling.output` or `sampling.num_samples`"
            ) from error

    def read_manifest(self) -> dict[str, Any]:
        """Return the manifest."""
        try:
            content = json.loads(self.manifest.read_text(encoding="utf-8"))
            if not isinstance(content, dict) or "status" not in content:
                raise ValueError("no manifest")
            return content
        except ValueError as error:
            raise ValueError(
                f"expected a run's manifest in {self.manifest}, but it cannot be read: set `sampling.output` to "
                "another folder"
            ) from error

    def write_manifest(self, content: dict[str, Any]) -> None:
        """Replace the manifest in one move, so that a reader never meets half of it."""
        replace_json(self.manifest, content)

    def write(self, rank: int, first: int, series: np.ndarray, seconds: float, start: int = 0) -> None:
        """Put series ``(count, N, M)`` in their rows, then note it in the rank's journal, with the start."""
        rows = np.lib.format.open_memmap(self.samples, mode="r+")
        rows[first : first + len(series)] = series
        rows.flush()
        line = {"first": first, "count": len(series), "seconds": round(seconds, 4), "start": start}
        path = self.path / f"journal-{rank}.jsonl"
        torn = path.exists() and not path.read_bytes().endswith(b"\n")  # a kill cut the last line short
        with path.open("a") as journal:
            journal.write("\n" * torn + json.dumps(line) + "\n")

    def journal(self) -> list[dict[str, Any]]:
        """Return the finished units of all ranks; a last line cut short by a kill does not count."""
        units = []
        for path in sorted(self.path.glob("journal-*.jsonl")):
            for line in path.read_text().splitlines():
                try:
                    units.append(json.loads(line))
                except json.JSONDecodeError:
                    continue
        return units

    def done(self) -> Ranges:
        """Return the index ranges whose samples are on disk."""
        units = self.journal() + self.read_manifest().get("units", [])
        return merge_ranges([(unit["first"], unit["first"] + unit["count"]) for unit in units])

    def close(self, facts: dict[str, Any]) -> None:
        """Move the journals into the manifest and mark the run as complete."""
        units = sorted(self.journal() + self.read_manifest().get("units", []), key=lambda unit: unit["first"])
        manifest = self.read_manifest()
        self.write_manifest({**manifest, "status": "complete", **facts, "units": units})
        for path in (*self.path.glob("journal-*.jsonl"), *self.path.glob("measured-*.npz")):
            path.unlink()
