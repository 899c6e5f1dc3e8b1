"""A study that somebody has sent writes where it is told to, whatever names stand in it."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing, suppress

import pytest

from analysis.recovery import recover
from nas.check import check_run
from nas.export import export_top
from tests.made_studies import study

OUTSIDE = ["../../evil", "/{root}/evil", "..\\evil", "evil/../../../evil", "~/evil"]


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("column", ["function_key", "known_name", "formula", "setting", "stage", "config"])
def test_names_of_functions_are_no_paths(tmp_path, name, column):
    name = name.format(root=tmp_path)
    run = tmp_path / "deep" / "down" / "run"
    run.parent.mkdir(parents=True)
    study(run)
    with closing(sqlite3.connect(run / "study.db")) as db, db:
        if column == "config":
            config = json.loads(db.execute("SELECT value FROM study WHERE key = 'config'").fetchone()[0])
            db.execute("UPDATE study SET value = ? WHERE key = 'config'", (json.dumps(config | {"name": name}),))
        else:
            db.execute(f"UPDATE trials SET {column} = ?", (name,))
        if column in ("setting", "stage"):
            db.execute(f"UPDATE trials SET trial = json_set(trial, '$.{column}', ?)", (name,))
    for use in (
        lambda: export_top(run, 1, tmp_path / "out"),
        lambda: recover(run, tmp_path / "recovered"),
        lambda: check_run(run),
    ):
        with suppress(ValueError):
            use()
    written = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*")}
    assert written <= {"deep", "out", "recovered"}
    assert [path.name for path in (tmp_path / "deep").rglob("*") if "evil" in path.name] == []
    exported = list((tmp_path / "out").rglob("*"))
    assert all(path.parent == tmp_path / "out" for path in exported)
    assert len(exported) == 2 or column not in ("function_key", "known_name")
