"""Read an offline W&B run: records in LevelDB's log format, each a protobuf message of W&B's own."""

import json
import struct
from pathlib import Path

from wandb.proto import wandb_internal_pb2


def records(path: Path):
    """Yield the records of a ``.wandb`` file."""
    data = path.read_bytes()
    assert data[:4] == b":W&B"
    place, block, message = 7, 32768, b""
    while place + 7 <= len(data):
        left = block - place % block
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        message += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(message)
            yield record
            message = b""


def unpack(items) -> dict:
    """Put items with nested keys back into dictionaries."""
    result: dict = {}
    for item in items:
        *outer, last = list(item.nested_key) or [item.key]
        place = result
        for key in outer:
            place = place.setdefault(key, {})
        place[last] = json.loads(item.value_json)
    return result


def read_run(path: Path) -> dict:
    """Return configuration, history rows and summary of a run."""
    run: dict = {"config": {}, "history": [], "summary": {}}
    for record in records(path):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run["config"] |= unpack(record.run.config.update)
        elif kind == "config":
            run["config"] |= unpack(record.config.update)
        elif kind == "history":
            run["history"].append(unpack(record.history.item))
        elif kind == "summary":
            run["summary"] |= unpack(record.summary.update)
    return run
