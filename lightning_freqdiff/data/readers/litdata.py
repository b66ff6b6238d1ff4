"""Series in the chunks that LitData writes, an array an item."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from lightning_freqdiff.data.readers.shards import FILE, START, STOP, Shards
from lightning_freqdiff.shards import Store

INDEX = "index.json"
NUMPY = dict(enumerate(("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")))
TORCH = {0: "f4", 1: "f4", 2: "f8", 3: "f8", 8: "f2", 9: "f2", 11: "u1", 12: "i1", 13: "i2", 14: "i2"}
TORCH |= {15: "i4", 16: "i4", 17: "i8", 18: "i8"}
"""LitData's numbers of types."""
KINDS = {"numpy": NUMPY, "no_header_numpy": NUMPY, "tensor": TORCH, "no_header_tensor": TORCH}
"""What series are stored as. Nothing else is decoded: a part of an item may be a pickle, which runs what it holds."""


class LitDataShards(Shards):
    """A folder that ``litdata.optimize`` wrote; a group is a chunk, which is read whole and never copied to a disk.

    The format of a chunk: how many items there are, where each begins and the last one ends, as 32-bit integers,
    and then the items; of an item, the bytes of each of its parts, and then these. It is read here and not by the
    library, which keeps copies on a disk and needs a build of torchvision that fits PyTorch's.

    An item is an array ``(N, M)`` or ``(N,)``, or a dictionary of some, whose columns are the channels.

    Args:
        url: The folder with its index.
        columns: Entries of the dictionaries that are taken; all arrays if not given.

    Raises:
        ValueError: Where the index is of no use, or items hold no arrays.
    """

    def __init__(self, url: str, columns: Sequence[str] = ()) -> None:
        self.store = Store(url, "data.path")
        try:
            index = json.loads(self.store.read(INDEX))
            config, chunks = index["config"], index["chunks"]
            formats, names = config["data_format"], _names(config["data_spec"])
            self.pieces = np.array([(i, 0, 0, chunk["chunk_size"]) for i, chunk in enumerate(chunks)], dtype=np.int64)
            self.files = [self.store.place(chunk["filename"]) for chunk in chunks]
            loader, *other = (config.get(name) for name in ("item_loader", "compression", "encryption"))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{url}/{INDEX}: expected an index of LitData ({error}); mend `data.path`") from error
        if loader not in (None, "PyTreeLoader") or any(other):
            raise ValueError(
                f"{url}: expected chunks of LitData as `optimize` writes them by default, got {loader}, compression "
                f"{other[0]}, encryption {other[1]}: write them without, and set `data.path` to that folder"
            )
        arrays = {name: at for at, name in enumerate(names) if formats[at].partition(":")[0] in KINDS}
        if missing := [name for name in columns if name not in arrays]:
            raise ValueError(
                f"expected entries that are arrays, {missing[0]} is none of {[*arrays]}: set `data.columns`"
            )
        self.taken = {name: arrays[name] for name in columns or arrays}
        if not self.taken or not len(self.pieces):
            raise ValueError(f"{url}: expected items that hold arrays, got {', '.join(formats)}; mend `data.path`")
        self.formats = formats
        first = self.rows(self.pieces[0])
        self.length = first.shape[1]
        self.channels = self._named(first.shape[2])

    def _named(self, count: int) -> tuple[str, ...]:
        """Return names of the channels: those of the entries where each is one."""
        return tuple(self.taken) if count == len(self.taken) and all(self.taken) else tuple(map(str, range(count)))

    def rows(self, piece: np.ndarray) -> np.ndarray:
        """Decode a chunk, or some of its items."""
        name = self.files[piece[FILE]]
        try:
            content = memoryview(self.store.again(lambda: self.store.fs.cat_file(name)))
            count = int(np.frombuffer(content, "<u4", 1)[0])
            ends = np.frombuffer(content, "<u4", count + 1, 4)
            items = [self._item(content[ends[i] : ends[i + 1]]) for i in range(piece[START], piece[STOP])]
            return np.stack(items)
        except (ValueError, IndexError, KeyError, FileNotFoundError) as error:
            reason = "it is not there" if isinstance(error, FileNotFoundError) else " ".join(str(error).split())
            raise ValueError(
                f"{name}: expected arrays of numbers, (N, M) or (N,), all of one shape ({reason}); mend `data.path`"
            ) from error

    def _item(self, item: memoryview) -> np.ndarray:
        """Return the series of an item, ``(N, M)``: behind the sizes of its parts lie these."""
        parts = len(self.formats)
        sizes = np.frombuffer(item, "<u4", parts).astype(np.int64)
        ends = 4 * parts + np.cumsum(sizes)
        if ends[-1] != len(item):
            raise ValueError("an item is cut short")
        found = [_array(item[ends[at] - sizes[at] : ends[at]], self.formats[at]) for at in self.taken.values()]
        if any(x.ndim not in (1, 2) for x in found):
            raise ValueError(f"one has the shape {next(x.shape for x in found if x.ndim not in (1, 2))}")
        return np.concatenate([x.reshape(len(x), -1) for x in found], axis=1, dtype=np.float32)


def is_litdata(store: Store) -> bool:
    """Tell whether a folder holds chunks of LitData: an index, as others have, beside files of theirs."""
    names = store.names()
    return INDEX in names and any(name.startswith("chunk-") and name.endswith(".bin") for name in names)


def _names(spec: str) -> list[str]:
    """Return the names of an item's parts, in their order; of one that is a single array, an empty one."""
    tree = json.loads(spec)[1]
    if tree["type"] is None:
        return [""]
    if tree["type"] != "builtins.dict" or any(child["type"] is not None for child in tree["children_spec"]):
        raise ValueError("items are neither arrays nor dictionaries of them")
    return [str(name) for name in json.loads(tree["context"])]


def _array(content: memoryview, kind: str) -> np.ndarray:
    """Return an array as LitData stores it: flat ones bare, others behind type and shape.

    Args:
        content: The bytes.
        kind: The format of the part, such as ``numpy`` or ``no_header_tensor:1``.
    """
    name, _, number = kind.partition(":")
    shape, start = (-1,), 0
    if not number:
        order = "<u4" if name == "numpy" else ">u4"
        number, rank = (int(x) for x in np.frombuffer(content, order, 2))
        shape, start = tuple(np.frombuffer(content, order, rank, 8)), 8 + 4 * rank
    if (kept := KINDS[name].get(int(number))) is None:
        raise ValueError(f"type {number} of {name} is none of real numbers")
    return np.frombuffer(content, kept, offset=start).reshape(shape)
