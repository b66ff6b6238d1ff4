"""What data sets with a name have in common: raw files, found or fetched, are prepared once and kept."""

import warnings
from abc import ABC, abstractmethod
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from lightning_freqdiff.data.base import require_at_least
from lightning_freqdiff.data.loaded import LoadedData
from lightning_freqdiff.data.readers.download import fetch, fingerprint, store
from lightning_freqdiff.data.readers.raw_files import RawFiles
from lightning_freqdiff.data.series.series import Series
from lightning_freqdiff.data.series.split import keep_some
from lightning_freqdiff.files import cache_root, read_arrays


class NamedData(LoadedData, ABC):
    """A data set with a name, read from its raw files, or from ready arrays.

    Without `path`, the files are looked for in a folder of the data set's name in `folder`. What is made of
    raw files is kept there as well, and made anew when they change.

    Args:
        path: Folder with the raw files, or a `.npz` with ready arrays, such as `x` of shape `(n, N, M)`.
        folder: Folder that holds all data sets; if not given, FREQDIFF_CACHE, or else ~/.cache/lightning_freqdiff.
        download: Download the files from Kaggle if they are not there; otherwise the network is never used.
        limit: Keep this many series, drawn with `seed`, for trials; all if not given.
        **kwargs: Settings of `LoadedData`.
    """

    title: ClassVar[str]
    kaggle: ClassVar[str]
    groups: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        path: str | None = None,
        folder: str | None = None,
        download: bool = False,
        limit: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if limit is not None:
            require_at_least(2, limit=limit)
        if download and path is not None:
            raise ValueError("expected `data.path` or `data.download` true, got both; leave one of them out")
        self.path = path
        self.folder = folder
        self.download = download
        self.limit = limit

    @property
    @abstractmethod
    def variant(self) -> str:
        """Name of the prepared arrays."""

    @property
    def archives(self) -> list[str]:
        """Names of files with ready arrays, which count where the raw files are not there."""
        return []

    @abstractmethod
    def raw_files(self) -> RawFiles:
        """Name the raw files."""

    def find(self, base: Path) -> list[Path]:
        """Return the raw files below a folder: all, or none; some of them are a FileNotFoundError."""
        return self.raw_files().find(base)

    @abstractmethod
    def prepare(self, files: list[Path], downloaded: bool) -> dict[str, np.ndarray]:
        """Make arrays of the raw files: `x`, `columns`, and what else there is for each series."""

    def prepare_data(self) -> None:
        """Find or fetch the files and make arrays of them; Lightning calls this on one process of each machine."""
        self._ready(download=self.download)

    def _load(self) -> Series:
        # Also met without prepare_data, by `describe` and `predict`: then one process alone may use the network.
        ready = self._ready(download=self.download and getattr(rank_zero_only, "rank", 0) == 0)
        parts = [read_arrays(path)[1] for path in ready]
        arrays = {key: parts[0][key] for key in parts[0]}
        for key in ("x", "y", *self.groups):
            if len(parts) > 1 and all(key in part for part in parts):
                arrays[key] = np.concatenate([part[key] for part in parts])
        series = self._from_arrays(arrays, str(ready[0]))
        return series if self.limit is None else keep_some(series, self.limit, self.seed)

    def _from_arrays(self, arrays: dict[str, np.ndarray], source: str) -> Series:
        """Make a set of series of arrays."""
        if "x" not in arrays:
            raise ValueError(f"{source}: expected an array named 'x', got {', '.join(arrays)}; mend `data.path`")
        x = arrays["x"][..., None] if arrays["x"].ndim == 2 else arrays["x"]
        names = np.ravel(arrays.get("columns", [f"channel {i}" for i in range(x.shape[-1] if x.ndim else 0)]))
        groups = None
        if self.split_by is not None:
            groups = arrays.get(self.split_by)
            if groups is None:
                known = [key for key, a in arrays.items() if key not in ("x", "part") and a.shape == x.shape[:1]]
                choices = ", ".join(known) or "none, for no groups are known"
                raise ValueError(f"{source}: expected `data.split_by` as one of {choices}, got {self.split_by!r}")
        part = arrays.get("part") if groups is None else None
        return Series(x, arrays.get("y"), tuple(map(str, names)), source, groups, part)

    def _ready(self, download: bool) -> list[Path]:
        """Return the files with ready arrays, which are made first if need be."""
        if self.path is not None and Path(self.path).suffix == ".npz":
            return [Path(self.path).expanduser()]
        home = cache_root(self.folder) / self.title
        base = home if self.path is None else Path(self.path).expanduser()
        if self.path is not None and not base.exists():
            raise FileNotFoundError(f"expected a folder or a file, found nothing at {base}; mend `data.path`")
        # A folder of one's own gets arrays of its own, lest a trial with part of the files replace the whole.
        mark = "" if self.path is None else f"-{sha256(str(base.absolute()).encode()).hexdigest()[:8]}"
        kept = home / f"{self.variant}{mark}.npz"
        files = self.find(base)
        if files:
            return [self._prepared(kept, files, base)]
        if self.path is None and kept.is_file():
            return [kept]
        archives = [base / name for name in self.archives]
        if archives and all(path.is_file() for path in archives):
            return archives
        if self.path is not None:
            raise FileNotFoundError(f"{self._absent(base)}; mend `data.path`")
        store(kept, self.without_files(home, download))
        return [kept]

    def _prepared(self, kept: Path, files: list[Path], base: Path) -> Path:
        """Make the arrays, unless they were made of these very files."""
        mark = fingerprint(files, base)
        if not kept.is_file() or _mark(kept) != mark:
            store(kept, {**self.prepare(files, downloaded=False), "fingerprint": np.array(mark)})
        return kept

    def without_files(self, home: Path, download: bool) -> dict[str, np.ndarray]:
        """Make the arrays where there are no raw files: of a download, if it is asked for."""
        if not download:
            raise FileNotFoundError(
                f"{self._absent(home)}; set `data.download` true, or put the files of Kaggle's {self.kaggle} there, "
                "or set `data.path`"
            )
        arrived = fetch(self.kaggle, home)
        try:
            files = self.find(arrived)
            if not files:
                raise FileNotFoundError(f"expected {self.raw_files()}, found none of it in {arrived}")
            return self.prepare(files, downloaded=True)
        except (ValueError, FileNotFoundError) as error:
            raise ValueError(
                f"expected {self.kaggle} from Kaggle to be whole, got a fault in it: {error} -- delete {arrived} and "
                f"try again, or put the files into {home}"
            ) from error

    def _absent(self, base: Path) -> str:
        names = " and ".join(self.archives)
        ready = f", or {names} with ready arrays" if names else ""
        return f"expected {self.raw_files()}{ready}, found nothing of it in {base}"

    def check_count(self, got: int, published: int, what: str, downloaded: bool, at_least: bool = False) -> None:
        """Refuse a download that is not whole; warn of it where the user put the files there."""
        if got == published or (at_least and got > published):
            return
        text = f"expected {published:,} {what}, as published, got {got:,}"
        if downloaded:
            raise ValueError(f"{text} (a download cut short?)")
        warnings.warn(f"{text}: a part of the data set is used", stacklevel=2)


def _mark(kept: Path) -> str:
    try:
        return str(read_arrays(kept, ["fingerprint"])[1]["fingerprint"])
    except (ValueError, KeyError):  # damaged, so made anew
        return ""
