"""TensorBoard event files of trainings, without TensorBoard. Host side; needs no JAX.

A file is a row of records: the length of the content, its checksum, the content and its checksum
(masked CRC-32C). The content is a protocol buffer `Event`, of which a few fields are written here.
Source: TensorFlow's `record_writer.cc` and `event.proto`.
"""

import itertools
import os
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from jaxdenoise.config import TrainConfig
from jaxdenoise.workflows.reporter import OnEpoch, Silent

_POLYNOMIAL = 0x82F63B78  # of CRC-32C, reversed


class EventFiles(Silent):
    """A `Reporter` that writes the losses of each training as TensorBoard scalars.

    Args:
        folder: gets a folder for each training: "training-1", "training-2", ...
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder, self._numbers = Path(folder), itertools.count(1)

    @contextmanager
    def training(
        self, config: TrainConfig, *, done: int = 0, total: int | None = None
    ) -> Iterator[OnEpoch]:
        """As `Reporter.training`: each column of an epoch's row is a scalar."""
        run = self._folder / f"training-{next(self._numbers)}"
        run.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}"
        with (run / name).open("ab") as file:
            file.write(_record(_event(version=b"brain.Event:2")))

            def on_epoch(row: Mapping[str, float]) -> None:
                step = int(row["epoch"])
                values = {key: float(value) for key, value in row.items() if key != "epoch"}
                file.write(_record(_event(step=step, values=values)))
                file.flush()

            yield on_epoch


def _event(
    *, version: bytes = b"", step: int = 0, values: Mapping[str, float] | None = None
) -> bytes:
    """The bytes of an `Event`: wall time (1), step (2), and file version (3) or summary (5)."""
    content = b"\x09" + struct.pack("<d", time.time())
    if version:
        return content + _field(3, version)
    summary = b"".join(
        _field(1, _field(1, name.encode()) + b"\x15" + struct.pack("<f", value))
        for name, value in (values or {}).items()
    )
    return content + b"\x10" + _varint(step) + _field(5, summary)


def _field(number, content):
    """A field of bytes: its number and kind, length and content."""
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _varint(value):
    groups = []
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])


def _record(content):
    length = struct.pack("<Q", len(content))
    return length + _checksum(length) + content + _checksum(content)


def _checksum(content):
    crc = 0xFFFFFFFF
    for byte in content:
        crc = _table()[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


@cache
def _table():
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return table
