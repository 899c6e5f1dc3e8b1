"""Damaged studies, and studies of an older version."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3

import pytest

from analysis.recovery import recover
from analysis.schema import VERSION
from analysis.store import Store, StoreError
from analysis.study import Study
from nas.check import check_run
from tests.made_studies import study


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    run = tmp_path_factory.mktemp("whole") / "run"
    study(run, "search.trials=30", "retrain={top: 3, seeds: 1}")
    return run


@pytest.fixture
def run(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "run")


def change(run, *statements):
    with sqlite3.connect(run / "study.db") as db:
        for statement in statements:
            db.execute(statement)
    db.close()


def records(run):
    with Store.open(run) as store:
        return {record.trial.id: record for record in store.records()}


def test_nothing_is_lost_of_a_whole_one(run, tmp_path):
    said = recover(run, tmp_path / "new")
    assert records(tmp_path / "new") == records(run)
    assert check_run(tmp_path / "new")[0] == []
    assert "None that is there was damaged" in said[-1]


def test_damaged_rows_are_named_and_the_others_kept(run, tmp_path):
    before = records(run)
    change(run, "UPDATE trials SET result = '{' WHERE id = 5", "UPDATE trials SET formula = x'ff' WHERE id = 7")
    with pytest.raises(StoreError):
        records(run)
    said = recover(run, tmp_path / "new")
    after = records(tmp_path / "new")
    assert after == {number: record for number, record in before.items() if number not in (5, 7)}
    assert said[0].startswith(f"{len(after)} trials were recovered")
    assert said[1] == "2 could not be: 5, 7"


def test_a_file_with_torn_pages(run, tmp_path):
    """Pages in the middle overwritten, as by a bad disk: what lies elsewhere is found."""
    before = records(run)
    content = bytearray((run / "study.db").read_bytes())
    page = int.from_bytes(content[16:18], "big")
    for number in (len(content) // page // 2, len(content) // page // 2 + 1):
        content[number * page : (number + 1) * page] = b"\xa5" * page
    (run / "study.db").write_bytes(content)
    said = recover(run, tmp_path / "new")
    after = records(tmp_path / "new")
    assert 0 < len(after) < len(before)
    assert all(before[number] == record for number, record in after.items())
    inside = [number for number in before if number not in after and number < max(after)]
    named = [int(number) for number in re.findall(r"\d+", said[1].partition(":")[2])]
    assert set(inside) <= set(named)  # none is lost without a word


def test_a_file_that_was_copied_in_part(run, tmp_path):
    """Half of it is missing: SQLite alone reads nothing of that."""
    before = records(run)
    content = (run / "study.db").read_bytes()
    (run / "study.db").write_bytes(content[: len(content) * 7 // 10])
    with pytest.raises(StoreError, match="--recover DIR"):
        records(run)
    said = recover(run, tmp_path / "new")
    after = records(tmp_path / "new")
    assert 0 < len(after) < len(before)
    assert all(before[number] == record for number, record in after.items())
    assert said[2] == "What came later, if anything, is lost, too."


def test_a_configuration_that_is_lost_is_taken_from_beside(run, tmp_path):
    change(run, "UPDATE study SET value = '{' WHERE key = 'config'")
    (run / "config.yaml").write_text("name: beside\n")
    recover(run, tmp_path / "new")
    with Store.open(tmp_path / "new") as store:
        assert store.get("config") == {"name": "beside"}
    (run / "config.yaml").unlink()
    with pytest.raises(StoreError, match=r"neither its configuration nor config\.yaml"):
        recover(run, tmp_path / "newer")


def test_what_cannot_be_recovered_at_all(run, tmp_path):
    with pytest.raises(StoreError, match=r"no study\.db in it"):
        recover(tmp_path, tmp_path / "new")
    with pytest.raises(StoreError, match="exists; choose another directory"):
        recover(run, run)
    (run / "study.db").write_bytes(b"not a database at all" * 1000)
    (run / "config.yaml").unlink(missing_ok=True)
    with pytest.raises(StoreError, match="neither its configuration nor"):
        recover(run, tmp_path / "new")


def of_version_2(run):
    change(
        run,
        "DROP INDEX launches",
        "DROP INDEX ends",
        "ALTER TABLE trials DROP COLUMN complexity",
        "ALTER TABLE trials DROP COLUMN setting",
        "UPDATE study SET value = '2' WHERE key = 'version'",
    )


def test_an_older_study_is_read_as_it_is(run, whole):
    of_version_2(run)
    content = (run / "study.db").read_bytes()
    with Study(run) as old, Study(whole) as new:
        assert old.trials.equals(new.trials)
    assert (run / "study.db").read_bytes() == content


def test_an_older_study_is_recovered(run, tmp_path, whole):
    of_version_2(run)
    recover(run, tmp_path / "new")
    assert records(tmp_path / "new") == records(whole)


def test_an_older_study_is_brought_up_to_date_when_it_goes_on(run, whole):
    of_version_2(run)
    with Store.open(run, write=True) as store:
        assert store.get("version") == VERSION
    assert records(run) == records(whole)
    assert check_run(run)[0] == []


def test_texts_of_an_older_study_keep_their_end(run):
    with Store.open(run) as store:
        config = store.get("config")
    text = json.dumps({**config, "data": {"name": "pydoc"}}).replace("'", "''")
    of_version_2(run)
    change(run, f"UPDATE study SET value = '{text}' WHERE key = 'config'")
    with Store.open(run) as store:
        assert store.get("config")["data"] == {"name": "pydoc", "test_fraction": 0}


@pytest.mark.parametrize("version", [1, 4, "x", None])
def test_other_versions_are_refused(run, version):
    change(run, f"UPDATE study SET value = '{json.dumps(version)}' WHERE key = 'version'")
    with pytest.raises(StoreError, match=r"this program reads versions 2 to 3; use the version of nas that wrote it"):
        Store.open(run)


def test_an_older_study_that_is_damaged_is_left_as_it_is(run):
    of_version_2(run)
    change(run, "UPDATE trials SET expression = 'sin(' WHERE id = 3")
    with pytest.raises(StoreError, match="cannot be read as a study"):
        Store.open(run, write=True)
    with sqlite3.connect(run / "study.db") as db:
        assert db.execute("SELECT value FROM study WHERE key = 'version'").fetchone() == ("2",)
        assert "complexity" not in [row[1] for row in db.execute("PRAGMA table_info(trials)")]
    db.close()
