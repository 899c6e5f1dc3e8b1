"""Studies are read when they have changed, without being in anybody's way."""

from __future__ import annotations

import fcntl
import shutil
import sqlite3

import pytest

from analysis.store import Store
from nas.dashboard import studies as module
from nas.dashboard.studies import Snapshot, Studies, Trouble
from nas.dashboard.summary import summarize
from tests.made_studies import study
from tests.nas.dashboard.studies import made, touch


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(module, "_PATIENCE", 0.0)


def test_it_is_read_again_only_when_it_changed(tmp_path):
    run = made(tmp_path)
    studies = Studies([run])
    first = studies.get("tiny")
    assert isinstance(first, Snapshot)
    assert studies.get("tiny") is first
    versions = studies.versions()
    touch(run)
    assert studies.versions() != versions
    second = studies.get("tiny")
    assert second is not first
    assert second.trials["seconds"].iloc[0] == first.trials["seconds"].iloc[0] + 1


def test_a_large_one_is_left_alone_for_a_while(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_PATIENCE", 1e6)
    run = made(tmp_path)
    studies = Studies([run])
    first, versions = studies.get("tiny"), studies.versions()
    touch(run)
    assert studies.get("tiny") is first
    assert studies.versions() == versions


def test_who_writes_a_study_is_not_hindered(tmp_path):
    run = made(tmp_path)
    with Store.open(run, write=True) as store:
        store.put("note", 1)
        studies = Studies([run])
        first = studies.get("tiny")
        assert isinstance(first, Snapshot)
        store.put("note", 2)
        second = studies.get("tiny")
        assert second.about["note"] == 2
        assert first.about["note"] == 1
    assert isinstance(studies.get("tiny"), Snapshot)
    with sqlite3.connect(run / "study.db") as db:  # no reader is left behind
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("BEGIN EXCLUSIVE")
    db.close()


def test_one_that_vanishes_or_is_damaged_leaves_the_others_alone(tmp_path):
    gone, damaged, well = (made(tmp_path, name) for name in ("gone", "damaged", "well"))
    studies = Studies([gone, damaged, well])
    assert all(isinstance(studies.get(slug), Snapshot) for slug in studies.slugs())
    shutil.rmtree(gone)
    (damaged / "study.db").write_bytes(b"SQLite format 3\x00" + b"\x07" * 5000)
    assert studies.slugs() == ["gone", "damaged", "well"]
    for slug in ("gone", "damaged"):
        trouble = studies.get(slug)
        assert isinstance(trouble, Trouble)
        assert str(tmp_path / slug) in trouble.message
    assert isinstance(studies.get("well"), Snapshot)
    (tmp_path / "new").mkdir()
    made(tmp_path / "new", "gone")
    (tmp_path / "new" / "gone").rename(gone)
    assert isinstance(studies.get("gone"), Snapshot)


def test_a_configuration_that_no_search_writes(tmp_path):
    run = made(tmp_path)
    with sqlite3.connect(run / "study.db") as db:
        db.execute("""UPDATE study SET value = '{"search": {"objective": "beauty"}}' WHERE key = 'config'""")
    db.close()
    trouble = Studies([run]).get("tiny")
    assert isinstance(trouble, Trouble)
    assert "beauty" in trouble.message


def test_equal_names_are_told_apart_and_new_studies_appear(tmp_path):
    first, second = made(tmp_path, "tiny"), tmp_path / "folder"
    second.mkdir()
    studies = Studies([first, second])
    assert studies.slugs() == ["tiny"]
    made(second, "tiny")
    assert studies.slugs() == ["tiny", "tiny-2"]
    assert studies.get("tiny-2").path == second / "tiny"
    with pytest.raises(KeyError):
        studies.get("tiny-3")


def test_an_empty_directory_may_become_a_study(tmp_path):
    (tmp_path / "tiny").mkdir()
    studies = Studies([tmp_path / "tiny"])
    assert studies.slugs() == []
    made(tmp_path)
    assert studies.slugs() == ["tiny"]
    assert isinstance(studies.get("tiny"), Snapshot)


def test_it_runs_as_long_as_its_lock_is_held(tmp_path):
    run = made(tmp_path)
    studies = Studies([run])
    assert summarize(studies.get("tiny")).state == "finished"
    with (run / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert summarize(studies.get("tiny")).state == "running"
    assert summarize(studies.get("tiny")).state == "finished"


def test_it_was_interrupted_if_trials_run_and_nobody_searches(tmp_path):
    run = made(tmp_path)
    with sqlite3.connect(run / "study.db") as db:
        db.execute("UPDATE trials SET state = 'RUNNING', finished = NULL, result = NULL WHERE id = 3")
    db.close()
    assert summarize(Studies([run]).get("tiny")).state == "interrupted"


def test_functions_that_were_given_are_no_search(tmp_path):
    study(tmp_path / "mine", "search.trials=0", "retrain.top=0", "retrain.functions=[x * tanh(x)]", "baselines=[ReLU]")
    about = summarize(Studies([tmp_path / "mine"]).get("mine"))
    assert about.task.startswith("functions that were given, ")
    assert about.searched == "2 retrainings"
