"""``RUN/tensorboard``: curves over finished trials, and the best functions as text. ``tensorboard --logdir RUN``.

One event file for every process that works on the study, not one a trial. The format is tensorboardX's; the file is
written here, because its writer is a thread that a full disk ends without a word, after which calls wait forever.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import masked_crc32c
from tensorboardX.summary import text

from analysis.store import Record
from nas.loggers import Logger, Study
from nas.loggers.curves import Curves, Point

FOLDER = "tensorboard"
_PREFIX = "events.out.tfevents"
_HEADER = struct.Struct("<QI")  # length, checksum of the length; then the data and their checksum
_CHECKSUM = struct.Struct("<I")


def open_logger(study: Study) -> Logger:
    return _TensorBoard(study.path / FOLDER, Curves(study.config.search.objective), study.earlier)


class _TensorBoard:
    def __init__(self, folder: Path, curves: Curves, earlier: tuple[Record, ...]) -> None:
        self._folder = folder
        self._curves = curves
        self._file: BinaryIO | None = None  # made for the first event, so that a mere look leaves no empty file
        known = _last_step(folder)
        points = [curves.point(record) for record in earlier]
        for point in points[known:]:
            self._write(point)

    def finished(self, record: Record) -> None:
        self._write(self._curves.point(record))

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _write(self, point: Point) -> None:
        """All curves in one event, at once: what is drawn does not wait for the next trial."""
        if self._file is None:
            self._folder.mkdir(exist_ok=True)
            number = len(list(self._folder.iterdir()))  # a process may come twice, in one second
            name = f"{_PREFIX}.{time.time():.0f}.{socket.gethostname()}.{os.getpid()}.{number}"
            self._file = (self._folder / name).open("xb")
            self._file.write(_framed(Event(wall_time=time.time(), file_version="brain.Event:2")))
        values = [Summary.Value(tag=name, simple_value=value) for name, value in point.values.items()]
        if point.is_best:
            values += text("best", _described(point, self._curves.metric)).value
        self._file.write(_framed(Event(wall_time=time.time(), step=point.step, summary=Summary(value=values))))
        self._file.flush()


def _described(point: Point, metric: str) -> str:
    record = point.record
    like = f", {record.likeness}" if record.likeness else ""
    return f"`{record.formula}`{like}: {metric} {point.values[f'{metric}/best']:.4f}, trial {record.trial.id}"


def _framed(event: Event) -> bytes:
    data = event.SerializeToString()
    length = struct.pack("<Q", len(data))
    return length + _CHECKSUM.pack(masked_crc32c(length)) + data + _CHECKSUM.pack(masked_crc32c(data))


def _last_step(folder: Path) -> int:
    """The last step in earlier files; 0 if there are none."""
    steps = (event.step for path in folder.glob(f"{_PREFIX}.*") for event in _events(path))
    return max(steps, default=0)


def _events(path: Path) -> Iterator[Event]:
    """Up to where a killed process stopped in the middle of one."""
    content, start = path.read_bytes(), 0
    while start + _HEADER.size <= len(content):
        length, _ = _HEADER.unpack_from(content, start)
        start, end = start + _HEADER.size, start + _HEADER.size + length
        if end + _CHECKSUM.size > len(content):
            return
        yield Event.FromString(content[start:end])
        start = end + _CHECKSUM.size
