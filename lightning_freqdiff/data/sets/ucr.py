"""The UCR and UEA archives of time series classification: Dau et al. 2018, Bagnall et al. 2018.

Files of a set are read by ourselves: `<Name>_TRAIN.ts` and `_TEST.ts` (a header, channels divided by colons, the
label last) or `.tsv` (the label first). Without files, aeon brings a few sets with it, and downloads the others.
"""

from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from lightning_freqdiff.data.readers.csv_text import is_gap
from lightning_freqdiff.data.readers.raw_files import RawFiles
from lightning_freqdiff.data.readers.table import REMEDY, read_wide
from lightning_freqdiff.data.sets.named import NamedData


class UCR(NamedData):
    """A set of the UCR or UEA archive, with the archive's own test part.

    Validation series are drawn from the archive's training part.

    Args:
        dataset: Name of the set, such as ArrowHead; its files are `<dataset>_TRAIN.ts` and `<dataset>_TEST.ts`.
        **kwargs: Settings of `NamedData`; what is downloaded comes from the archive, through aeon.
    """

    title: ClassVar[str] = "ucr"
    kaggle: ClassVar[str] = ""

    def __init__(self, dataset: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not dataset.isidentifier():
            raise ValueError(f"expected the name of a set of the archive, got `data.dataset` {dataset!r}")
        self.dataset = dataset

    @property
    def variant(self) -> str:
        """Name of the prepared arrays."""
        return self.dataset

    def raw_files(self) -> RawFiles:
        """Name the two tables, in the newer form."""
        return self._tables(".ts")

    def _tables(self, suffix: str) -> RawFiles:
        files = [Path(f"{self.dataset}_{part}{suffix}") for part in ("TRAIN", "TEST")]
        return RawFiles(files, inside=Path(self.dataset))

    def find(self, base: Path) -> list[Path]:
        """Return the two tables, in either form."""
        return self._tables(".ts").find(base) or self._tables(".tsv").find(base)

    def prepare(self, files: list[Path], downloaded: bool) -> dict[str, np.ndarray]:
        """Read both parts."""
        parts = [read_ts(file) if file.suffix == ".ts" else read_tsv(file) for file in files]
        shapes = [x.shape[1:] for x, _ in parts]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"{files[1]}: expected series of {shapes[0]} steps and channels, as in {files[0].name}, got "
                f"{shapes[1]}; {REMEDY}"
            )
        return arrays([x for x, _ in parts], [y for _, y in parts])

    def without_files(self, home: Path, download: bool) -> dict[str, np.ndarray]:
        """Ask aeon for the set: those that it brings with it need no network."""
        try:
            sets = import_module("aeon.datasets")
        except ImportError as error:
            raise ImportError(
                f"expected {self._tables('.ts')} (or .tsv) in {home}, found neither; without them aeon is needed, "
                'which is not installed: pip install "lightning-freqdiff[ucr]", or put the files there'
            ) from error
        brought = Path(str(sets.__file__)).parent / "data"
        if not (brought / self.dataset).is_dir() and not download:
            raise FileNotFoundError(
                f"expected {self._tables('.ts')} (or .tsv) in {home}, found neither, and aeon does not bring "
                f"{self.dataset} with it; set `data.download` true, or put the files there"
            )
        where = None if (brought / self.dataset).is_dir() else str(home / "aeon")
        try:
            parts = [sets.load_classification(self.dataset, part, where) for part in ("train", "test")]
        except Exception as error:  # no network, an unknown name, unequal lengths: aeon has no class for it
            reason = " ".join(str(error).split())
            raise OSError(
                f"expected {self.dataset} from the archive through aeon, got {type(error).__name__}: {reason}; mend "
                f"`data.dataset`, or put {self._tables('.ts')} into {home}"
            ) from error
        if not all(isinstance(x, np.ndarray) for x, _ in parts):
            raise ValueError(
                f"{self.dataset}: expected series of one length, got several; choose another `data.dataset`"
            )
        return arrays([x.transpose(0, 2, 1) for x, _ in parts], [y for _, y in parts])


def arrays(x: list[np.ndarray], y: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Lay training and test part one after the other."""
    both = np.concatenate(x).astype(np.float32)
    return {
        "x": both,
        "y": np.unique(np.concatenate(y), return_inverse=True)[1],
        "columns": np.array([f"channel {i}" for i in range(both.shape[-1])]),
        "part": np.repeat(["train", "test"], [len(part) for part in x]),
    }


def read_tsv(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read a table of labels and series `(n, 1 + N)`."""
    table = read_wide(path, delimiter="\t")
    return table[:, 1:, None], table[:, 0].astype(str)


def read_ts(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read channels divided by colons and numbers by commas: series `(n, N, M)` and labels `(n,)`."""
    x, y, shape, begun, labelled = [], [], None, False, True
    for line, text in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        row = text.strip()
        if row.lower().startswith(("@classlabel", "@targetlabel")):
            labelled = row.split()[1].lower() == "true"
        begun = begun or row.lower() == "@data"
        if not begun or not row or row[0] in "#@":
            continue
        channels = row.split(":")
        if labelled:
            y.append(channels.pop())
        try:
            cells = [[np.nan if is_gap(c) else float(c) for c in one.split(",")] for one in channels]
        except ValueError as error:
            raise ValueError(f"{path}: expected numbers in row {line}, got: {error}; {REMEDY}") from error
        got = len(cells), [len(one) for one in cells]
        shape = shape or got
        if got != shape or len(set(got[1])) != 1:
            raise ValueError(
                f"{path}: expected series of one length, {shape[1][0]} as in the first, and {shape[0]} channels, got "
                f"{got[1]} steps in row {line}; choose another `data.dataset`, or {REMEDY}"
            )
        x.append(cells)
    if not x:
        raise ValueError(f"{path}: expected series below @data, got none; {REMEDY}")
    return np.array(x).transpose(0, 2, 1), np.array(y if labelled else [""] * len(x))
