"""trials.csv: read back by pandas and compared with the store."""

from __future__ import annotations

import csv

import pandas as pd
import pytest

from nas.loggers.csv import COLUMNS, text_of
from tests.nas.loggers.logged import go_on
from trainers.trial import TrialState


def rows(path) -> list[dict[str, str]]:
    with (path / "trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def check(path, records) -> None:
    """One row a trial, in the order of the ends, and the very same numbers."""
    frame = pd.read_csv(path / "trials.csv", keep_default_na=False, na_values=[""])
    assert list(frame) == list(COLUMNS)
    assert frame["finished"].tolist() == list(range(1, len(records) + 1))
    for row, record in zip(frame.to_dict("records"), records, strict=True):
        trial, result = record.trial, record.result
        assert (row["id"], row["stage"], row["seed"]) == (trial.id, trial.stage, trial.seed)
        assert (row["state"], row["seconds"]) == (result.state, result.seconds)
        assert (row["formula"], row["expression"]) == (record.formula, trial.expression)
        for name in ("val_accuracy", "val_loss"):
            if name in result.metrics:
                assert row[name] == result.metrics[name]
            else:
                assert pd.isna(row[name])
        assert (None if pd.isna(row["reason"]) else row["reason"]) == result.reason


def test_a_row_for_every_finished_trial(tmp_path):
    records = go_on(tmp_path, "search.trials=15", "loggers=csv")
    assert {r.result.state for r in records} >= {TrialState.COMPLETE, TrialState.FAIL}
    assert {r.trial.stage for r in records} == {"search", "retrain"}
    check(tmp_path, records)
    assert {path.name for path in tmp_path.iterdir()} == {"study.db", "trials.csv"}


def test_a_resumed_study_goes_on_in_the_same_file(tmp_path):
    first = go_on(tmp_path, "search.trials=15", steps=6)
    check(tmp_path, first)
    number = (tmp_path / "trials.csv").stat().st_ino
    check(tmp_path, go_on(tmp_path, "search.trials=15"))
    assert (tmp_path / "trials.csv").stat().st_ino == number  # appended to, not written anew


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text[:-1],
        lambda text: "".join(text.splitlines(keepends=True)[:-1]),
        lambda text: text + text.splitlines(keepends=True)[-1],
        lambda text: "",
        lambda text: "a,b\n1,2\n",
        None,
    ],
    ids=["half", "no end of line", "a row lost", "a row twice", "empty", "other", "gone"],
)
def test_what_differs_from_the_store_is_written_anew(tmp_path, damage):
    go_on(tmp_path, "search.trials=15", steps=6)
    path = tmp_path / "trials.csv"
    if damage is None:
        path.unlink()
    else:
        path.write_text(damage(path.read_text()))
    check(tmp_path, go_on(tmp_path, "search.trials=15"))


def test_a_finished_study_gets_what_it_lacks(tmp_path):
    records = go_on(tmp_path, "search.trials=15", "loggers=[]")
    assert not (tmp_path / "trials.csv").exists()
    go_on(tmp_path, "search.trials=15")
    check(tmp_path, records)


def test_reasons_with_commas_quotes_and_lines_are_one_cell(tmp_path):
    from dataclasses import replace

    (record, *_) = go_on(tmp_path, "search.trials=15", steps=1)
    reason = 'no, "never"\nand again'
    odd = replace(record, result=replace(record.result, state=TrialState.FAIL, reason=reason))
    (tmp_path / "trials.csv").write_bytes(text_of([odd, record]).encode())
    assert [row["reason"] for row in rows(tmp_path)] == [reason, ""]
