"""What can be read of a damaged study, as a new one."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from analysis.check import row_faults
from analysis.schema import COLUMNS, INDEXES, PUT, READABLE, SCHEMA, VERSION, migrate
from analysis.store import FILE_NAME, Row, Store, StoreError
from analysis.store_errors import no_study

_NEEDED = COLUMNS - {"complexity", "setting"}
_MOST_MISSING = 10_000
"""So many numbers in a row without a trial, and there are no more."""


def recover(run: Path, to: Path) -> list[str]:
    """Write what can be read of the study in ``run`` to the new directory ``to``; what was done, a sentence each.

    A trial is taken over if its row is whole. Of the configuration there is a second copy, config.yaml.

    Raises:
        StoreError: there is no study, nothing can be read of it, or ``to`` exists.
    """
    path = run / FILE_NAME
    if not path.is_file():
        raise no_study(run)
    if to.exists():
        raise StoreError(f"{to} exists; choose another directory to recover to")
    with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as db:
        db.execute("PRAGMA writable_schema=ON")  # or SQLite reads nothing of a file that is shorter than it should be
        notes = dict(_notes(db))
        config = notes.pop("config", None) or _config_beside(run)
        if config is None:
            raise StoreError(
                f"{path}: neither its configuration nor config.yaml beside it can be read; put the configuration of "
                "the search there under that name"
            )
        version = notes.pop("version", None)
        rows, damaged = _rows(db)
    to.mkdir(parents=True)
    with contextlib.closing(sqlite3.connect(to / FILE_NAME, isolation_level=None)) as new:
        new.executescript(SCHEMA if version != READABLE[0] else _without_new_columns())
        new.executemany(PUT, [("version", json.dumps(version if version in READABLE else VERSION)), ("config", config)])
        new.executemany(PUT, notes.items())
        for row in rows:
            names = ", ".join(row)
            new.execute(f"INSERT INTO trials ({names}) VALUES ({', '.join('?' * len(row))})", list(row.values()))
        if version == READABLE[0]:
            migrate(new)
        new.executescript(INDEXES)
    with Store.open(to):  # says what is still wrong, if anything
        pass
    said = [f"{len(rows)} trials were recovered to {to}"]
    if damaged:
        more = f" and {len(damaged) - 20:,} more" if len(damaged) > 20 else ""
        said.append(f"{len(damaged)} could not be: {', '.join(str(number) for number in damaged[:20])}{more}")
        if damaged[-1] > max((row["id"] for row in rows), default=0):
            said.append("What came later, if anything, is lost, too.")
        said.append("Their numbers are missing there, so it can be read, but not resumed.")
    else:
        said.append(f"None that is there was damaged. To go on: nas resume {to}")
    return said


def _without_new_columns() -> str:
    return SCHEMA.replace(",\n    complexity INTEGER,\n    setting TEXT", "")


def _notes(db: sqlite3.Connection) -> Iterator[tuple[str, str]]:
    """What is kept about the study, as JSON, as far as it can be read."""
    try:
        for key, value in db.execute("SELECT key, value FROM study"):
            if isinstance(key, str) and isinstance(value, str) and _is_json(value):
                yield key, value
    except (sqlite3.Error, UnicodeDecodeError):
        return


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _config_beside(run: Path) -> str | None:
    import yaml

    try:
        values = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        return None
    return json.dumps(values) if isinstance(values, dict) else None


def _rows(db: sqlite3.Connection) -> tuple[list[Row], list[int]]:
    """Whole rows, and the numbers of damaged ones; each row is asked for by itself, as pages may be unreadable."""
    found: list[Row] = []
    damaged: list[int] = []
    missing, number = 0, 0
    while missing < _MOST_MISSING:
        number += 1
        try:
            cursor = db.execute("SELECT * FROM trials WHERE id = ?", (number,))
            values: tuple[Any, ...] | None = cursor.fetchone()
            names = [column[0] for column in cursor.description]
        except (sqlite3.Error, UnicodeDecodeError):
            damaged.append(number)
            missing += 1
            continue
        if values is None:
            missing += 1
            continue
        missing = 0
        row = {name: value for name, value in zip(names, values, strict=True) if name in COLUMNS}
        if not row.keys() >= _NEEDED or any(row_faults(row)):
            damaged.append(number)
        else:
            found.append(row)
    kept = {row["id"] for row in found}
    last = max(kept, default=0)
    lost = {number for number in damaged if number <= last + 1}
    # Numbers are given one after the other, so one that is not there was lost: the way to its page led elsewhere.
    return found, sorted(lost | (set(range(1, last + 1)) - kept))
