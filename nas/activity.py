"""Whether somebody searches in a run's directory now. Nothing is locked to find out: a search may start meanwhile."""

from __future__ import annotations

import os
import time
from pathlib import Path

LOCK_NAME = ".lock"
_LOCKS = Path("/proc/locks")
_FRESH_SECONDS = 600.0


def is_running(run: Path) -> bool:
    """Whether the run's lock is held; where the system does not list locks, whether the study was just written."""
    try:
        held = _LOCKS.read_text()
        inode = os.stat(run / LOCK_NAME).st_ino
    except FileNotFoundError:
        return not _LOCKS.exists() and _was_just_written(run)
    except OSError:
        return _was_just_written(run)
    return any(line.split()[1] == "FLOCK" and f":{inode} " in line for line in held.splitlines())


def _was_just_written(run: Path) -> bool:
    try:
        return time.time() - os.stat(run / "study.db-wal").st_mtime < _FRESH_SECONDS
    except OSError:
        return False
