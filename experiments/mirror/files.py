"""Reads the .wandb files of offline runs: what was handed to W&B and reached the disk whole.

A file is a header and a log of protobuf records in LevelDB's framing: blocks of 32 KiB that hold chunks of
(crc32, length, type), where a record is one full chunk or a first, middle ones and a last. A file that a killed client
left ends in a torn record; everything before it counts. It must not know what the rows mean, and it writes nothing.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HEADER = struct.Struct("<4sHB")
"""Mark, number, version at the start of a file."""
MARK = b":W&B"
CHUNK = struct.Struct("<IHB")
"""crc32 of type and data, length of data, type."""
BLOCK_BYTES = 32768
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


@dataclass(frozen=True, kw_only=True)
class OfflineFile:
    """One .wandb file: a part of one run."""

    run_id: str
    """Id of the W&B run."""
    rows: tuple[dict[str, Any], ...]
    """History rows, in the order in which they were logged."""
    tags: frozenset[str]
    """Tags of the run."""
    exit_code: int | None
    """Exit code that the run was finished with; None when it was not finished."""
    preempted: bool
    """Whether the run was said to go on later."""
    artifacts: dict[str, str]
    """Name -> digest of the artifacts that were logged."""
    summary: dict[str, Any]
    """Last value of every summary key."""


def read_offline_file(path: Path) -> OfflineFile:
    """Read one file as far as it is whole."""
    from wandb.proto import wandb_internal_pb2

    rows, tags, artifacts = [], frozenset[str](), {}
    summary: dict[str, Any] = {}
    exit_code, preempted = None, False
    for content in whole_records(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(content)
        kind = record.WhichOneof("record_type")
        if kind == "history":
            rows.append(_items(record.history.item))
        elif kind == "summary":
            summary |= _items(record.summary.update)
        elif kind == "run":
            tags = frozenset(record.run.tags)
        elif kind == "artifact":
            artifacts[record.artifact.name] = record.artifact.digest
        elif kind == "preempting":
            preempted = True
        elif kind == "exit":
            exit_code = int(record.exit.exit_code)
    return OfflineFile(
        run_id=path.stem.removeprefix("run-"),
        rows=tuple(rows),
        tags=tags,
        exit_code=exit_code,
        preempted=preempted,
        artifacts=artifacts,
        summary=summary,
    )


def _items(items: Any) -> dict[str, Any]:
    """JSON values by name; a nested name is joined by dots."""
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}


def whole_records(content: bytes) -> Iterator[bytes]:
    """The records of a file's bytes up to the first one that is torn."""
    if len(content) < HEADER.size or HEADER.unpack_from(content)[0] != MARK:
        return
    at, parts = HEADER.size, b""
    while True:
        if BLOCK_BYTES - at % BLOCK_BYTES < CHUNK.size:
            at += BLOCK_BYTES - at % BLOCK_BYTES  # what is left of a block is too short for a chunk and is padding
        if at + CHUNK.size > len(content):
            return
        check, length, kind = CHUNK.unpack_from(content, at)
        data = content[at + CHUNK.size : at + CHUNK.size + length]
        if len(data) < length or zlib.crc32(data, zlib.crc32(bytes([kind]))) != check:
            return
        at += CHUNK.size + length
        parts = data if kind in (FULL, FIRST) else parts + data
        if kind in (FULL, LAST):
            yield parts
