"""Damage of every kind that a store may have is found, and a whole one is whole."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from analysis.check import faults
from analysis.store import Record, Store
from trainers.trial import Component, Recipe, Trial, TrialResult, TrialState


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Three trials: one ended well, one failed, one runs."""
    with Store.create(tmp_path, {"name": "made"}) as store:
        for number, expression in enumerate(("tanh(x)", "sin(x)", "x * sigmoid(x)"), 1):
            trial = Trial(number, "search", expression, 0, Component("m"), Component("d"), Recipe(), 1)
            store.launch(Record(trial, f"key {number}", expression, None, None))
        store.finish(1, TrialResult(TrialState.COMPLETE, {"epoch": 1, "val_accuracy": 0.5, "val_loss": 1.0}))
        store.finish(2, TrialResult(TrialState.FAIL, reason="diverged"))
    return tmp_path


def faults_after(run: Path, *statements: str) -> list[str]:
    with sqlite3.connect(run / "study.db") as db:
        for statement in statements:
            db.execute(statement)
    db.close()
    with Store.open(run) as store:
        return faults(store)


def test_a_whole_one(run):
    assert faults_after(run) == []


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE trials SET state = 'COMPLETE' WHERE id = 3", "it is COMPLETE, and has no result"),
        ("UPDATE trials SET state = 'RUNNING' WHERE id = 1", "it is RUNNING, and has a result"),
        ("UPDATE trials SET state = 'FAIL' WHERE id = 1", "it is FAIL in the table and COMPLETE in its result"),
        ("UPDATE trials SET val_loss = 0.1 WHERE id = 1", "its val_loss is 0.1 in the table and 1.0"),
        ("UPDATE trials SET seed = 5 WHERE id = 2", "its seed is 5 in the table and 0 in the trial"),
        ("UPDATE trials SET expression = 'cos(x)' WHERE id = 2", "its expression is 'cos(x)' in the table"),
        ("UPDATE trials SET trial = replace(trial, 'sin(x)', 'sin(') WHERE id = 2", "it cannot be read (ParseError"),
        ("UPDATE trials SET finished = 1 WHERE id = 2", "ended before it began"),
        ("UPDATE trials SET launched = finished WHERE id = 2", "two events have the same number"),
        ("UPDATE trials SET function_key = 'key 1' WHERE id = 2", "one function has 2 trials of stage search"),
        ("DELETE FROM trials WHERE id = 1", "some number is missing"),
    ],
)
def test_damage_is_found(run, statement, words):
    found = faults_after(run, statement)
    assert any(words in fault for fault in found), found


def test_a_damaged_page_is_found(run):
    with sqlite3.connect(run / "study.db") as db:  # an index that does not fit its table
        db.execute("CREATE INDEX of_states ON trials (state)")
        db.execute("PRAGMA writable_schema = ON")
        db.execute("UPDATE sqlite_schema SET sql = 'CREATE INDEX of_states ON trials (stage)' WHERE name = 'of_states'")
    db.close()
    with Store.open(run) as store:
        assert any("SQLite finds it damaged" in fault for fault in faults(store))
