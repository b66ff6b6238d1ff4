"""An object store that fails one call in ten, before or after it has done what it was asked."""

import random
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.memory import MemoryFileSystem


class FaultyFileSystem(MemoryFileSystem):
    """fsspec's memory file system on a bad line."""

    protocol = "faulty"
    store: ClassVar[dict[str, Any]] = {}  # pyright: ignore
    pseudo_dirs: ClassVar[list[str]] = [""]
    share = 0.1
    chance = random.Random(0)
    calls = failed = 0

    def _line(self) -> bool:
        cls = type(self)
        cls.calls += 1
        bad = cls.chance.random() < cls.share
        cls.failed += bad
        return bad

    def _try(self, call, *args, **kwargs):
        if self._line():
            if self.chance.random() < 0.5:  # it was done, and only the answer is lost
                call(*args, **kwargs)
            raise ConnectionResetError(104, "Connection reset by peer")
        return call(*args, **kwargs)

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        return self._try(super().pipe_file, path, value, mode=mode, **kwargs)

    def cat_file(self, path, *args, **kwargs):
        return self._try(super().cat_file, path, *args, **kwargs)

    def rm_file(self, path):
        return self._try(super().rm_file, path)

    def ls(self, path, *args, **kwargs):
        return self._try(super().ls, path, *args, **kwargs)


fsspec.register_implementation("faulty", FaultyFileSystem, clobber=True)
