"""A folder on a path or an object store: whole files through fsspec, tried again where a call fails."""

from __future__ import annotations

import errno
import io
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential, wait_random

from lightning_freqdiff.files import replacing

T = TypeVar("T")
ATTEMPTS = 10
"""Tries of a call; with the waits between them, a store may be out of reach for more than a minute."""

EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
"""The extra of this package that brings a protocol."""

LASTING = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError)
LASTING_CODES = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENAMETOOLONG)
"""What another try does not mend."""


def is_url(path: str) -> bool:
    """Tell a URL from a path.

    >>> is_url("s3://bucket/run"), is_url("runs/samples")
    (True, False)
    """
    return "://" in path


def passing(error: BaseException) -> bool:
    """Whether a failed call may succeed if it is made again: a matter of the network, not of what was asked."""
    if isinstance(error, OSError):
        return not isinstance(error, LASTING) and error.errno not in LASTING_CODES
    # What gcsfs lets through of the library below it; importing that here would cost everyone half a second.
    return any(kind.__module__.startswith("aiohttp") for kind in type(error).__mro__)


class Store:
    """Files below a URL, each of which is there whole or not at all.

    Args:
        url: A folder: a path, or what fsspec knows, such as ``s3://bucket/run`` or ``gs://bucket/run``.
        setting: What names it, in Python terms, for errors.

    Raises:
        ValueError: Where nothing that is installed knows the protocol.
    """

    def __init__(self, url: str, setting: str) -> None:
        self.url, self.setting = url.rstrip("/") or url, setting
        self.wait: Any = wait_exponential(multiplier=0.2, max=20) + wait_random(0, 0.2)
        try:
            self.fs, self.root = fsspec.core.url_to_fs(os.path.expanduser(self.url))
        except ImportError as error:
            protocol = url.partition("://")[0]
            extra = EXTRAS.get(protocol)
            wanted = f'pip install "lightning-freqdiff[{extra}]"' if extra else "install its library"
            raise ValueError(
                f"{protocol}:// needs a library that is not here: {wanted}, or set `{setting}`"
            ) from error
        except ValueError as error:
            raise ValueError(f"expected a path or a URL that fsspec knows, got {url}: set `{setting}`") from error

    @property
    def local(self) -> bool:
        """Whether files lie in a file system of this machine."""
        return isinstance(self.fs, LocalFileSystem)

    @property
    def local_path(self) -> Path:
        """The folder, where it is on this machine."""
        return Path(self.root)

    def read(self, name: str) -> bytes:
        """Return the content of a file."""
        return self.again(lambda: self.fs.cat_file(self.place(name)))

    def write(self, name: str, content: bytes) -> None:
        """Put a file in its place, in one move: what reads meanwhile has the old or the new one."""
        if self.local:
            self.again(lambda: self._replace(Path(self.place(name)), content))
        else:  # one request, which an object store carries out whole or not at all
            self.again(lambda: self.fs.pipe_file(self.place(name), content))

    def create(self, name: str, content: bytes) -> None:
        """Put a file in its place where there is none, in one move; of several writers the first one's stays."""
        try:
            if self.local:
                self.again(lambda: self._link(Path(self.place(name)), content))
            else:
                self.again(lambda: self.fs.pipe_file(self.place(name), content, mode="create"))
        except FileExistsError:
            pass

    def remove(self, name: str) -> None:
        """Remove a file, if it is there.

        Raises:
            OSError: Where the store lets nobody delete; :class:`io.UnsupportedOperation` where nothing there can be.
        """
        try:
            self.again(lambda: self.fs.rm_file(self.place(name)))
        except FileNotFoundError:
            pass
        except NotImplementedError as error:  # fsspec's way of saying so
            raise io.UnsupportedOperation(f"{self.url} has no way to delete files") from error

    def names(self, folder: str = "") -> list[str]:
        """Return the names of what lies in a folder, as it is now; nothing where there is no such folder."""

        def listed() -> list[str]:
            self.fs.invalidate_cache()
            return [str(path).rstrip("/").rsplit("/", 1)[-1] for path in self.fs.ls(self.place(folder), detail=False)]

        try:
            return sorted(name for name in self.again(listed) if not name.endswith(".partial"))
        except FileNotFoundError:
            return []

    def place(self, name: str) -> str:
        """Return where a file lies, as the file system knows it."""
        return f"{self.root}/{name}".rstrip("/")

    def _replace(self, path: Path, content: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(content)

    def _link(self, path: Path, content: bytes) -> None:
        """Write a file elsewhere and give it its name, which fails where another has it."""
        whole = path.with_name(f".{path.name}-{os.getpid()}-{os.urandom(4).hex()}.partial")
        self._replace(whole, content)
        try:
            os.link(whole, path)
        finally:
            whole.unlink()

    def again(self, call: Callable[[], T]) -> T:
        """Make a call, again and with longer and longer waits where it fails; in one line where it fails for good."""
        tries = Retrying(
            stop=stop_after_attempt(ATTEMPTS), wait=self.wait, retry=retry_if_exception(passing), reraise=True
        )
        try:
            return tries(call)
        except (FileNotFoundError, FileExistsError) as error:
            if re.search(r"bucket (does not exist|not found)|NoSuchBucket", str(error), re.IGNORECASE):
                raise ValueError(f"expected a bucket that is there, got {self.url}: set `{self.setting}`") from error
            raise
        except OSError as error:
            reason = error.strerror or " ".join(str(error).split()) or type(error).__name__
            raise OSError(f"cannot use {self.url} ({reason}): mend it, or set `{self.setting}`") from error
        except Exception as error:
            if not type(error).__module__.startswith(("botocore", "aiohttp", "gcsfs", "google")):
                raise
            reason = " ".join(str(error).split())
            raise OSError(
                f"cannot use {self.url} ({reason}): give its credentials as its library takes them, or set "
                f"`{self.setting}`"
            ) from error
