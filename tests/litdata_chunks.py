"""Chunks as LitData writes them, by a second hand."""

import json
import struct
from pathlib import Path

import numpy as np


def chunks(folder: Path, items: list, formats: list[str], size: int = 20, **config) -> str:
    """Write items, all of them dictionaries or arrays, ``size`` to a chunk; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    leaf, listed = {"type": None, "context": None, "children_spec": []}, []
    for number, start in enumerate(range(0, len(items), size)):
        packed = [packed_item(item, formats) for item in items[start : start + size]]
        head = 4 * (2 + len(packed))
        ends = np.cumsum([head, *(len(item) for item in packed)])
        name = f"chunk-0-{number}.bin"
        content = struct.pack(f"<{1 + len(ends)}I", len(packed), *ends) + b"".join(packed)
        (folder / name).write_bytes(content)
        listed.append({"chunk_bytes": len(content), "chunk_size": len(packed), "dim": None, "filename": name})
    tree = {**leaf, "type": "builtins.dict", "children_spec": [leaf] * len(formats)}
    tree = {**tree, "context": json.dumps([*items[0]])} if isinstance(items[0], dict) else leaf
    about = {"data_format": formats, "data_spec": json.dumps([1, tree])}
    about |= {"item_loader": "PyTreeLoader", "compression": None, "encryption": None, "chunk_size": size, **config}
    (folder / "index.json").write_text(json.dumps({"chunks": listed, "config": about}))
    return str(folder)


def packed_item(item, formats: list[str]) -> bytes:
    """The sizes of the parts, and then these."""
    parts = [*item.values()] if isinstance(item, dict) else [item]
    packed = [packed_part(part, kind) for part, kind in zip(parts, formats, strict=True)]
    return struct.pack(f"<{len(packed)}I", *map(len, packed)) + b"".join(packed)


def packed_part(part, kind: str) -> bytes:
    """Flat arrays bare, others behind type and shape; numbers as eight bytes."""
    if not isinstance(part, np.ndarray):
        return struct.pack("<q", part)
    if ":" in kind:
        return part.tobytes()
    types = {"numpy": {"<f4": 9, "<f8": 10, "<i4": 2, "<c8": 11}, "tensor": {"<f4": 0, "<f8": 2}}
    about = types[kind][part.dtype.str], part.ndim, *part.shape
    return struct.pack(f"{'<' if kind == 'numpy' else '>'}{len(about)}I", *about) + part.tobytes()
