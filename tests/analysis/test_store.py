"""The study store: rows are neither lost nor doubled, and what is no study is refused."""

from __future__ import annotations

import dataclasses
import sqlite3
from pathlib import Path

import pytest

from analysis.store import Record, Store, StoreError
from tests.records import make_result, make_trial
from trainers.trial import TrialState


def record(trial_id: int, expression: str = "tanh(x)", **changes) -> Record:
    return Record(make_trial(trial_id, expression, **changes), f"key{trial_id}", expression, None, None)


def test_events_come_back_in_order(tmp_path):
    with Store.create(tmp_path, {"name": "t"}) as store:
        store.launch(record(1))
        store.launch(record(2))
        store.finish(2, make_result(0.5))
        store.launch(record(3))
        store.finish(1, make_result(0.7))
    with Store.open(tmp_path) as store:
        assert [(e.kind, e.record.trial.id) for e in store.events()] == [
            ("launch", 1),
            ("launch", 2),
            ("finish", 2),
            ("launch", 3),
            ("finish", 1),
        ]
        assert store.get("config") == {"name": "t"}
        finished = {r.trial.id: r.result for r in store.records()}
        assert finished == {1: make_result(0.7), 2: make_result(0.5), 3: None}


def test_a_result_is_stored_once(tmp_path):
    with Store.create(tmp_path, {}) as store:
        store.launch(record(1))
        store.finish(1, make_result(0.5))
        with pytest.raises(StoreError, match="stored once"):
            store.finish(1, make_result(0.9))
        with pytest.raises(StoreError, match="trial 7 is not running"):
            store.finish(7, make_result(0.9))
        assert store.records()[0].result == make_result(0.5)


def test_another_attempt_keeps_the_row(tmp_path):
    with Store.create(tmp_path, {}) as store:
        store.launch(record(1))
        store.launch(record(1))
        assert len(store.records()) == 1
        assert store.attempts(1) == 2


def test_failures_keep_their_reason(tmp_path):
    failed = dataclasses.replace(make_result(None, TrialState.FAIL), reason="diverged: loss nan in epoch 1")
    with Store.create(tmp_path, {}) as store:
        store.launch(record(1))
        store.finish(1, failed)
        (row,) = store.records()
    assert row.result == failed


def test_a_reader_sees_a_study_while_it_is_written_and_cannot_write_it(tmp_path):
    with Store.create(tmp_path, {}) as writer:
        writer.launch(record(1))
        with Store.open(tmp_path) as reader:
            assert len(reader.records()) == 1
            writer.launch(record(2))
            assert len(reader.records()) == 2
            with pytest.raises(StoreError, match="readonly"):
                reader.put("config", {})


def test_what_is_no_study_is_refused(tmp_path):
    with pytest.raises(StoreError, match="not a study's directory"):
        Store.open(tmp_path)
    (tmp_path / "study.db").write_bytes(b"not a database, but long enough to be looked at" * 100)
    with pytest.raises(StoreError, match="cannot be read as a study"):
        Store.open(tmp_path)
    (tmp_path / "study.db").unlink()
    with Store.create(tmp_path, {}) as store:
        store.put("version", 99)
    with pytest.raises(StoreError, match="version 99"):
        Store.open(tmp_path)
    with pytest.raises(StoreError, match="nas resume"):
        Store.create(tmp_path, {})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("first", "first is not a study's directory: did you mean runs/first?"),
        (
            "runs",
            "runs is not a study's directory: there is no study.db in it; it holds studies: runs/a, runs/b, runs/c and "
            "1 more",
        ),
        (
            "runs/first/study.db",
            "runs/first/study.db is not a study's directory: it is a file; give its directory: runs/first",
        ),
        ("runs/a/empty", "runs/a/empty is not a study's directory: there is no study.db in it"),
        ("second", "second is not a study's directory: it does not exist in {here}"),
    ],
)
def test_what_is_no_study_is_answered_with_the_one_that_was_meant(tmp_path, monkeypatch, given, message):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b", "c", "first"):
        (tmp_path / "runs" / name / "empty").mkdir(parents=True)
        Store.create(tmp_path / "runs" / name, {}).close()
    with pytest.raises(StoreError) as caught:
        Store.open(Path(given))
    assert str(caught.value) == message.format(here=tmp_path)


@pytest.mark.parametrize("name", ["q?b", "a#b", "50%", "with space", "ä"])
def test_any_folder_name_will_do(tmp_path, name):
    run = tmp_path / name
    run.mkdir()
    with Store.create(run, {"a": 1}) as store:
        store.launch(record(1))
    with Store.open(run) as store:
        assert len(store.records()) == 1
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM study WHERE key = 'config'",
        "UPDATE study SET value = '{' WHERE key = 'version'",
        "UPDATE study SET value = '[' WHERE key = 'config'",
        "DROP TABLE trials",
        "UPDATE trials SET trial = '{}'",
        "UPDATE trials SET result = 'null and void'",
        'UPDATE trials SET result = \'{"state": "WON"}\'',
    ],
)
@pytest.mark.parametrize("write", [False, True])
def test_a_damaged_study_is_refused_in_a_sentence(tmp_path, damage, write):
    with Store.create(tmp_path, {}) as store:
        store.launch(record(1))
        store.finish(1, make_result(0.9))
    with sqlite3.connect(tmp_path / "study.db") as db:
        db.execute(damage)
    with pytest.raises(StoreError, match="cannot be read as a study"):
        Store.open(tmp_path, write=write)


def test_a_killed_creation_leaves_no_half_made_study(tmp_path):
    (tmp_path / "study.new").write_bytes(b"half a file")
    with Store.create(tmp_path, {"a": 1}) as store:
        assert store.get("config") == {"a": 1}
    assert not (tmp_path / "study.new").exists()
