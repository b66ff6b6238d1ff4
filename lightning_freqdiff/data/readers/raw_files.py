"""The files of a data set as its authors publish them, and where they are looked for."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RawFiles:
    """What the raw files of a published data set are called.

    Attributes:
        files: Files with a name of their own.
        folder: Folder of all others, if there is one.
        pattern: What the others are called.
        inside: Folder that all of it is in where it was downloaded; it may be left out.
    """

    files: list[Path]
    folder: Path | None = None
    pattern: str = "*"
    inside: Path = Path()

    def __str__(self) -> str:
        names = [str(file) for file in self.files] + ([f"{self.folder}/{self.pattern}"] if self.folder else [])
        return " and ".join(names)

    def find(self, base: Path) -> list[Path]:
        """Return the files below a folder: all, or none; some of them are a FileNotFoundError.

        Where there is but one file, `base` may be that file, whatever its name.
        """
        if base.is_file():
            if self.folder or len(self.files) > 1:
                raise ValueError(f"expected a folder with {self}, or a .npz file, got {base}; mend `data.path`")
            return [base]
        for root in (base, base / self.inside):
            there = [root / file for file in self.files if (root / file).is_file()]
            others = sorted((root / self.folder).glob(self.pattern)) if self.folder else []
            missing = [str(file) for file in self.files if not (root / file).is_file()]
            missing += [f"{self.folder}/{self.pattern}"] if self.folder and not others else []
            if not missing:
                return there + others
            if there or others:
                raise FileNotFoundError(
                    f"expected {self} in {root}, but {missing[0]} is not there; put it there, or point `data.path` "
                    "to a whole copy"
                )
        return []
