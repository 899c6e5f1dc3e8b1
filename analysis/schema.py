"""The tables of a study's store, and how those of older versions become today's.

Version 3 (today): trials have their ``complexity`` and their ``setting``. Version 2 had neither, and its texts no test
part; a store of version 1 is refused.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from trainers.trial import METRICS

VERSION = 3
READABLE = (2, 3)
PUT = "INSERT OR REPLACE INTO study VALUES (?, ?)"
SCHEMA = """
CREATE TABLE study (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE trials (
    id INTEGER PRIMARY KEY,
    stage TEXT NOT NULL,
    expression TEXT NOT NULL,
    function_key TEXT NOT NULL,
    formula TEXT NOT NULL,
    known_name TEXT,
    likeness TEXT,
    seed INTEGER NOT NULL,
    state TEXT NOT NULL,
    val_accuracy REAL,
    val_loss REAL,
    seconds REAL,
    parameters INTEGER,
    reason TEXT,
    attempts INTEGER NOT NULL DEFAULT 1,
    launched INTEGER NOT NULL,
    finished INTEGER,
    trial TEXT NOT NULL,
    result TEXT,
    complexity INTEGER,
    setting TEXT
);
"""
# Without these every event would read the whole table to find its number.
INDEXES = """
CREATE INDEX IF NOT EXISTS launches ON trials (launched);
CREATE INDEX IF NOT EXISTS ends ON trials (finished);
"""
COLUMNS = frozenset(line.split()[0] for line in SCHEMA.splitlines() if line.startswith("    "))
"""Of the table of trials."""
_TEXTS = ("text", "tiny_shakespeare", "pydoc")


class _Search(BaseModel):
    model_config = ConfigDict(extra="allow")
    objective: Literal[tuple(METRICS)] = "val_accuracy"  # type: ignore[valid-type]
    cost: Literal["complexity", "time"] | None = None


class _Config(BaseModel):
    """As much of a configuration as readers rely on."""

    model_config = ConfigDict(extra="allow")
    search: _Search = _Search()


class About(BaseModel):
    """What the table of the study holds. A stranger's file may hold anything."""

    model_config = ConfigDict(extra="allow")
    config: _Config
    settings: dict[str, _Config] = {}
    nas_version: str = ""
    created: str = ""
    precision: Literal["fp32", "bf16"] = "fp32"
    search_seconds: float = 0.0
    proposals: dict[str, int] = {}
    known_keys: list[str] = []
    warm_start: list[tuple[str, str | None]] = []
    machine: dict[str, Any] = {}


def migrate(db: sqlite3.Connection) -> None:
    """Bring the tables of version 2 to today's, all of it or nothing. ``db`` is in autocommit mode.

    Raises:
        sqlite3.Error, ValueError, TypeError: they are damaged.
    """
    db.execute("BEGIN IMMEDIATE")
    try:
        for column in ("complexity INTEGER", "setting TEXT"):
            db.execute(f"ALTER TABLE trials ADD COLUMN {column}")
        for number, expression, stage in db.execute("SELECT id, expression, stage FROM trials").fetchall():
            db.execute("UPDATE trials SET complexity = ? WHERE id = ?", (complexity(expression, stage), number))
        (stored,) = db.execute("SELECT value FROM study WHERE key = 'config'").fetchone()
        db.executemany(PUT, [("config", json.dumps(_with_today_s_keys(json.loads(stored)))), ("version", str(VERSION))])
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _with_today_s_keys(config: Any) -> Any:
    """What had no test part goes on without one."""
    data = config.get("data") if isinstance(config, dict) else None
    if isinstance(data, dict) and data.get("name") in _TEXTS:
        data.setdefault("test_fraction", 0)
    return config


def complexity(expression: str, stage: str) -> int | None:
    """Number of nodes; None of a relaxed network, which is no expression."""
    from search_spaces.expression import size  # these import torch, which a reader does not need
    from search_spaces.parser import parse

    return None if stage == "relax" else size(parse(expression))
