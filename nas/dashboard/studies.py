"""The studies that a dashboard shows: each is read at once into memory, and again only when its file has changed."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis.store import FILE_NAME, StoreError
from analysis.study import Study
from nas.activity import is_running

_PATIENCE = 4.0
"""A study is read again after this many times the time that it took to read: a large one does not keep a core busy."""


class Snapshot(Study):
    """A study as it was at one moment. Its file is closed: a search that writes it is never in our way, nor we in its.

    Attributes:
        slug: its name in addresses.
        version: equal as long as nothing has changed.
        running: whether somebody searched then.
    """

    def __init__(self, path: Path, slug: str, version: str, running: bool) -> None:
        super().__init__(path)
        self.slug, self.version, self.running = slug, version, running
        self._boards: dict[tuple[str, str | None], pd.DataFrame] = {}
        try:
            for setting in (None, *self.settings):  # whatever is wrong with it is found here
                self.leaderboard(setting=setting)
            _ = self.epochs
        finally:
            self.close()

    @property
    def name(self) -> str:
        """Unlike its directory's, no other study has it."""
        return self.slug

    def leaderboard(self, sort: str = "rank", setting: str | None = None) -> pd.DataFrame:
        """As :meth:`Study.leaderboard`; made once."""
        if (sort, setting) not in self._boards:
            self._boards[sort, setting] = super().leaderboard(sort, setting)
        return self._boards[sort, setting].copy()


@dataclass(frozen=True)
class Trouble:
    """A study that cannot be read now, and why."""

    slug: str
    version: str
    message: str


@dataclass(frozen=True)
class _Kept:
    shown: Snapshot | Trouble
    read_at: float
    seconds: float


class Studies:
    """By their names in addresses, which lead to these directories and to no other.

    Args:
        runs: studies' directories, and directories of such; in the latter new ones are found while they appear.
    """

    def __init__(self, runs: Sequence[Path]) -> None:
        self._folders = [run for run in runs if not (run / FILE_NAME).exists()]
        self._paths: dict[str, Path] = {}
        self._kept: dict[str, _Kept] = {}
        self._lock = threading.Lock()
        self._reading: dict[str, threading.Lock] = {}
        for run in runs:
            if run not in self._folders:
                self._add(run)

    def slugs(self) -> list[str]:
        """Names of all studies, those of folders newest first."""
        with self._lock:
            patterns = (FILE_NAME, f"*/{FILE_NAME}")  # an empty directory may become a study
            found = [path.parent for folder in self._folders for pattern in patterns for path in folder.glob(pattern)]
            for run in sorted(found, key=_changed, reverse=True):
                self._add(run)
            return list(self._paths)

    def _add(self, run: Path) -> None:
        if run in self._paths.values():
            return
        name, number = run.resolve().name or "study", 1
        slug = name
        while slug in self._paths:
            number += 1
            slug = f"{name}-{number}"
        self._paths[slug] = run
        self._reading[slug] = threading.Lock()

    def versions(self) -> dict[str, str]:
        """Of all studies; a version changes when there is something new to be read."""
        return {slug: self._version(slug) for slug in self.slugs()}

    def _version(self, slug: str) -> str:
        now, kept = _signature(self._paths[slug]), self._kept.get(slug)
        if kept is not None and time.monotonic() - kept.read_at < _PATIENCE * kept.seconds:
            return kept.shown.version
        return now

    def get(self, slug: str) -> Snapshot | Trouble:
        """A study as it is now, or was a moment ago.

        Raises:
            KeyError: there is none of that name.
        """
        path = self._paths[slug]
        with self._reading[slug]:
            version, kept = self._version(slug), self._kept.get(slug)
            if kept is not None and kept.shown.version == version:
                return kept.shown
            start = time.monotonic()
            shown = _read(path, slug, version)
            end = time.monotonic()
            self._kept[slug] = _Kept(shown, end, end - start)
            return shown


def _changed(run: Path) -> float:
    try:
        return (run / FILE_NAME).stat().st_mtime
    except OSError:
        return 0.0


def _signature(run: Path) -> str:
    """Of the file and of what SQLite has not yet written into it."""
    parts = []
    for name in (FILE_NAME, f"{FILE_NAME}-wal"):
        try:
            stat = os.stat(run / name)
            parts.append(f"{stat.st_ino}.{stat.st_mtime_ns}.{stat.st_size}")
        except OSError:
            parts.append("none")
    return f"{'-'.join(parts)}-{'running' if is_running(run) else 'idle'}"


def _read(path: Path, slug: str, version: str) -> Snapshot | Trouble:
    why = ""
    for _ in range(2):  # a search that starts or ends while it is read may look like damage, once
        try:
            return Snapshot(path, slug, version, version.endswith("running"))
        except StoreError as error:
            why = str(error)
        except Exception as error:  # a file may hold anything, and the other studies are to be shown all the same
            detail = " ".join(str(error).split())[:300]
            why = f"{path / FILE_NAME} cannot be shown ({type(error).__name__}: {detail})"
        time.sleep(0.05)
    return Trouble(slug, version, why)
