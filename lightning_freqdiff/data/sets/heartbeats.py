"""Heartbeats of Kachuee, Fazeli and Sarrafzadeh, "ECG Heartbeat Classification", arXiv 1805.00794.

Single beats at 125 Hz, scaled to [0, 1] and padded with zeros to 187 steps, from the MIT-BIH Arrhythmia and the
PTB Diagnostic databases of PhysioNet. The files have no header: each row is 187 steps, then the label.
"""

from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from lightning_freqdiff.data.readers.raw_files import RawFiles
from lightning_freqdiff.data.readers.table import REMEDY, read_wide
from lightning_freqdiff.data.sets.named import NamedData

STEPS = 187
FILES = {
    "mitbih": {"mitbih_train.csv": 87_554, "mitbih_test.csv": 21_892},
    "ptbdb": {"ptbdb_normal.csv": 4_046, "ptbdb_abnormal.csv": 10_506},
}


class ECG(NamedData):
    """Heartbeats of the MIT-BIH or PTB databases, 187 steps and one channel.

    The MIT-BIH files have the papers' own test part, of 21,892 beats, which is tested on; validation beats are
    drawn from the other 87,554. Those of PTB are split at random. A `.npz` that names the `record` of each beat
    can be split by it (`split_by: record`): then no patient is in two parts, as in the papers' they are.

    Args:
        database: Which heartbeats: mitbih has five classes, ptbdb has two.
        **kwargs: Settings of `NamedData`.
    """

    title: ClassVar[str] = "ecg"
    kaggle: ClassVar[str] = "shayanfazeli/heartbeat"

    def __init__(self, database: Literal["mitbih", "ptbdb"] = "mitbih", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.database = database

    @property
    def variant(self) -> str:
        """Name of the prepared arrays."""
        return self.database

    @property
    def archives(self) -> list[str]:
        """Names of files with ready arrays."""
        return ["ecg_mitbih.npz"] if self.database == "mitbih" else []

    def raw_files(self) -> RawFiles:
        """Name the tables."""
        return RawFiles([Path(name) for name in FILES[self.database]])

    def prepare(self, files: list[Path], downloaded: bool) -> dict[str, np.ndarray]:
        """Read all rows of both tables; there is no header to lose one to."""
        tables = [read_heartbeats(file) for file in files]
        for file, table in zip(files, tables, strict=True):
            self.check_count(len(table), FILES[self.database][file.name], f"rows in {file}", downloaded)
        counts = [len(table) for table in tables]
        both = np.concatenate(tables)
        arrays = {
            "x": both[:, :STEPS, None].astype(np.float32),
            "y": both[:, STEPS].astype(np.int64),
            "columns": np.array(["ECG"]),
        }
        if self.database == "mitbih":
            arrays["part"] = np.repeat(["train", "test"], counts)
        return arrays


def read_heartbeats(path: Path) -> np.ndarray:
    """Read a table without a header: `(rows, 188)`, the label last."""
    table = read_wide(path)
    if table.shape[1] != STEPS + 1:
        raise ValueError(
            f"{path}: expected {STEPS + 1} columns ({STEPS} steps and a label), got {table.shape[1]}; {REMEDY}"
        )
    labels = table[:, STEPS]
    if not (np.isfinite(labels) & (labels == np.round(labels))).all():
        raise ValueError(
            f"{path}: expected labels 0, 1, ... in the last column, got {labels[labels != np.round(labels)][0]}; "
            f"{REMEDY}"
        )
    return table
