"""A logger in a thread of its own, so that a slow disk or a server that does not answer holds up no search."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Protocol

from analysis.store import Record

_PATIENCE_SECONDS = 60.0  # for the rest to be written, when the search has ended
_AT_ONCE = 100


class Batches(Protocol):
    """A logger that takes several trials at once."""

    def several(self, records: list[Record]) -> None: ...
    def close(self) -> None: ...


class Behind:
    """The driver's side. What the thread raises is raised by the next call here."""

    def __init__(self, opener: Callable[[], Batches]) -> None:
        self._waiting: queue.SimpleQueue[Record | None] = queue.SimpleQueue()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, args=(opener,), daemon=True, name="nas-logger")
        self._thread.start()

    def finished(self, record: Record) -> None:
        self._raise()
        self._waiting.put(record)

    def close(self) -> None:
        self._waiting.put(None)
        self._thread.join(_PATIENCE_SECONDS)
        self._raise()
        if self._thread.is_alive():
            raise TimeoutError(f"its server did not take everything within {_PATIENCE_SECONDS:.0f} seconds")

    def _raise(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _run(self, opener: Callable[[], Batches]) -> None:
        try:
            logger = opener()
            while records := self._next():
                logger.several(records)
            logger.close()
        except Exception as error:
            self._error = error

    def _next(self) -> list[Record]:
        """What waits, at least one; nothing at the end."""
        records: list[Record] = []
        while len(records) < _AT_ONCE and (not records or not self._waiting.empty()):
            record = self._waiting.get()
            if record is None:
                if records:
                    self._waiting.put(None)
                return records
            records.append(record)
        return records
