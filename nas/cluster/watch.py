"""Looks after a training from inside its process, and ends the process if the training hangs or takes too much memory.

A thread of Python's looks every second. A training that hangs in native code may hold the interpreter's lock, so that
no thread of Python's ever runs again; then faulthandler's timer, which is C's, ends the process. The driver is told why
before, or can tell from the silence.
"""

from __future__ import annotations

import contextlib
import faulthandler
import math
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from trainers import progress

_LOOK_SECONDS = 1.0
_GRACE_SECONDS = 5.0  # what Python's thread is given before C's ends the process


@dataclass(frozen=True)
class Limits:
    """What a training may take.

    Attributes:
        hang_seconds: longest time without a step; None for no limit.
        memory: bytes of its process; None for no limit.
    """

    hang_seconds: float | None = None
    memory: int | None = None


@contextlib.contextmanager
def watched(limits: Limits, say: Callable[[str], None], beat: Callable[[], None]) -> Iterator[None]:
    """Watch the calling thread until the end of the ``with`` statement.

    Args:
        limits: what it may take.
        say: gets the reason before the process ends.
        beat: called now and then as long as Python runs.
    """
    over = threading.Event()
    watch = _Watch(limits, say, beat, threading.get_ident(), resident_bytes() if _Watch.used else 0)
    _Watch.used = True
    watcher = threading.Thread(target=watch.until, args=(over,), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
        faulthandler.cancel_dump_traceback_later()


@dataclass
class _Watch:
    """Over one training.

    Attributes:
        limits: as above, like ``say`` and ``beat``.
        thread: that trains.
        before: bytes that earlier trainings in this process have left behind.
        used: whether this process has trained before.
    """

    limits: Limits
    say: Callable[[str], None]
    beat: Callable[[], None]
    thread: int
    before: int
    used: ClassVar[bool] = False

    def until(self, over: threading.Event) -> None:
        """Look every second, until it is over or a limit is passed."""
        hang = self.limits.hang_seconds
        seen, since, beaten = -1, 0.0, -math.inf
        wait = 0.0
        while not over.wait(wait):
            wait = _LOOK_SECONDS
            now, steps = time.monotonic(), progress.steps()
            if steps != seen:
                seen, since = steps, now
            if hang is not None and now - beaten > hang / 10:
                beaten = now  # both at once, or a hang after a long start would not be silent for hang_seconds
                faulthandler.dump_traceback_later(hang + _GRACE_SECONDS, exit=True, file=2)
                with contextlib.suppress(Exception):
                    self.beat()
            if hang is not None and now - since > hang:
                self._end(f"hung: no step for {hang:g} s (ray.hang_seconds){_place(self.thread)}")
            self._look_at_memory()

    def _look_at_memory(self) -> None:
        limit, memory = self.limits.memory, resident_bytes()
        if limit is None or memory <= limit:
            return
        if memory - self.before < limit / 2:
            self._end(None)  # it is not this training that took it: it is run again, in a process of its own
        self._end(
            f"out of memory: its process had {memory / 1e9:.1f} GB, and may have {limit / 1e9:.1f} (ray.max_memory_gb)"
        )

    def _end(self, fault: str | None) -> None:
        if fault is not None:
            with contextlib.suppress(Exception):  # whatever keeps the reason from being said, the process ends
                self.say(fault)
        os._exit(1)


def _place(thread: int) -> str:
    """Where a thread stands."""
    frame = sys._current_frames().get(thread)
    if frame is None:
        return ""
    last = traceback.extract_stack(frame)[-1]
    return f"; it stood in {last.name}, {os.path.basename(last.filename)} line {last.lineno}"


def resident_bytes() -> int:
    """Memory of this process, without what it only reserved; 0 where the system does not say."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
