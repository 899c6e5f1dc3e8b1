"""Tables of results: what comes back from the files, which way metrics point, and what is refused with a sentence."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis.yardstick import FUNCTIONS, TRAININGS, ResultTable, TableError, read_table
from tests.made_tables import made_table

ACCURACY = np.array([[0.5, 0.6, 0.7], [0.9, np.nan, 0.8], [0.1, 0.2, 0.3], [np.nan, np.nan, np.nan]])
SEEDS = (4, 7, 11)


@pytest.fixture
def table() -> ResultTable:
    return made_table(ACCURACY, silu=2, swish=(0, 2), seeds=SEEDS, config={"name": "t"}, created="2026")


def test_what_is_written_is_read(table, tmp_path):
    table.write(tmp_path)
    read = read_table(tmp_path)
    assert {key: read.about[key] for key in table.about} == dict(table.about)
    pd.testing.assert_frame_equal(read.trainings, table.trainings)
    plain = [column for column in table.functions if column != "spectrum"]
    pd.testing.assert_frame_equal(read.functions[plain], table.functions[plain])
    np.testing.assert_array_equal(np.stack(list(read.functions["spectrum"])), np.stack(list(table.functions.spectrum)))
    by_pandas = pd.read_parquet(tmp_path / TRAININGS)  # as its README says
    assert by_pandas.groupby("function")["val_accuracy"].mean()[0] == pytest.approx(0.6)


@pytest.mark.parametrize("shuffled", [False, True])
def test_values_point_upwards_whatever_the_order_of_rows(table, shuffled):
    if shuffled:
        table = replace(table, trainings=table.trainings.sample(frac=1, random_state=3))
        assert list(table.trainings["function"]) != sorted(table.trainings["function"])
    assert table.seeds == SEEDS
    np.testing.assert_array_equal(table.values("val_accuracy"), ACCURACY)
    np.testing.assert_allclose(table.values("val_loss"), ACCURACY - 1)
    np.testing.assert_allclose(table.values("train_loss_sum"), -4 * (1 - ACCURACY))
    assert np.isnan(table.values("val_bpb")).all()


def test_a_failure_has_no_value_although_it_reported_one(table):
    """A training that diverged late has the metrics of its last good epoch."""
    trainings = table.trainings.copy()
    trainings.loc[(trainings["function"] == 0) & (trainings["seed"] == 7), "state"] = "FAIL"
    values = replace(table, trainings=trainings).values("val_accuracy")
    assert np.isnan(values[0]).tolist() == [False, True, False]


def test_results_are_those_of_the_seed_in_the_order_of_the_functions(table):
    shuffled = replace(table, trainings=table.trainings.sample(frac=1, random_state=5))
    for column, seed in enumerate(SEEDS):
        results = shuffled.results(seed)
        assert [str(r.state) for r in results] == ["FAIL" if np.isnan(a) else "COMPLETE" for a in ACCURACY[:, column]]
        assert [r.metrics.get("val_accuracy") for r in results] == [
            None if np.isnan(a) else a for a in ACCURACY[:, column]
        ]
        assert results[0].metrics["val_loss"] == pytest.approx(1 - ACCURACY[0, column])
        assert [r.reason for r in results] == ["diverged: loss" if np.isnan(a) else None for a in ACCURACY[:, column]]
        assert [r.cost for r in results] == [1.0, 2.0, 3.0, 4.0]
        assert {r.seconds for r in results} == {2.0}
        assert all("val_bpb" not in r.metrics for r in results)


def _metadata(text: str):
    def spoil(folder):
        content = pq.read_table(folder / FUNCTIONS)
        pq.write_table(content.replace_schema_metadata({"nas": text}), folder / FUNCTIONS)

    return spoil


def _without(column: str):
    def spoil(folder):
        content = pq.read_table(folder / TRAININGS)
        pq.write_table(content.drop_columns([column]), folder / TRAININGS)

    return spoil


def _changed(name: str, change):
    def spoil(folder):
        content = pq.read_table(folder / name)
        frame = change(content.to_pandas())
        made = pa.Table.from_pandas(frame, preserve_index=False)
        pq.write_table(made.replace_schema_metadata(content.schema.metadata), folder / name)

    return spoil


def _trainings(change):
    return _changed(TRAININGS, change)


def _functions(column: str, value):
    return _changed(FUNCTIONS, lambda frame: frame.assign(**{column: [value] * len(frame)}))


def _one_seed_twice(frame: pd.DataFrame) -> pd.DataFrame:
    frame.loc[0, "seed"] = frame.loc[1, "seed"]
    return frame


FORMAT = json.dumps({"format": 99})


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda folder: (folder / FUNCTIONS).unlink(), "is not a table: there is no functions.parquet"),
        (lambda folder: (folder / TRAININGS).unlink(), "is not a table: there is no trainings.parquet"),
        (lambda folder: (folder / TRAININGS).write_bytes(b"PAR1 but not for long"), "cannot be read as a table"),
        (
            lambda folder: (folder / FUNCTIONS).write_bytes((folder / FUNCTIONS).read_bytes()[:-40]),
            "cannot be read as a table",
        ),
        (lambda folder: (folder / FUNCTIONS).write_bytes(b""), "cannot be read as a table"),
        (_metadata(FORMAT), "has table format 99, this program reads format 1"),
        (_metadata("{}"), "has table format None"),
        (_metadata("{not json"), "cannot be read as a table"),
        pytest.param(_metadata("[1]"), "format"),
        (_without("seed"), "lacks the columns seed"),
        (_without("val_loss"), "lacks the columns val_loss"),
        (_trainings(lambda frame: frame[:-1]), "has 11 trainings of 4 functions"),
        (_trainings(lambda frame: frame[frame["seed"] == 4]), "at least two"),
        (_trainings(lambda frame: frame[:0]), "at least two"),
        pytest.param(_trainings(_one_seed_twice), "every function with every seed"),
        pytest.param(
            _trainings(lambda frame: frame.assign(function=frame["function"].replace(0, 99))),
            "every function with every seed",
        ),
        pytest.param(_trainings(lambda frame: frame.assign(state=frame["state"].replace("FAIL", "LOST"))), "LOST"),
        (_trainings(lambda frame: frame.assign(val_loss="low")), "something else than numbers in the column val_loss"),
        (_trainings(lambda frame: frame.assign(seed=np.nan)), "something else than whole numbers in the column seed"),
        (_trainings(lambda frame: frame.assign(function=0.5)), "than whole numbers in the column function"),
        (_trainings(lambda frame: frame.assign(state=None)), "something else than text in the column state"),
        (_functions("cost", "cheap"), "something else than numbers in the column cost"),
        (_functions("cost", None), "something else than numbers in the column cost"),
        (_functions("nodes", True), "something else than numbers in the column nodes"),
        (_functions("expression", None), "something else than text in the column expression"),
        (_functions("swish_family", "no"), "something else than yes or no in the column swish_family"),
        (_functions("spectrum", None), "spectra"),
        (_functions("spectrum", 1.0), "spectra"),
        (_changed(FUNCTIONS, lambda f: f.assign(spectrum=[[0.5] * n for n in range(len(f))])), "different lengths"),
    ],
)
def test_what_is_no_table_is_refused_with_a_sentence(table, tmp_path, spoil, sentence):
    table.write(tmp_path)
    spoil(tmp_path)
    with pytest.raises(TableError, match=sentence) as refused:
        read_table(tmp_path)
    assert "\n" not in str(refused.value)


def test_there_must_be_a_folder(tmp_path):
    for missing in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(TableError, match="nas table CONFIG makes one"):
            read_table(missing)


def test_a_table_that_is_named_without_its_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tables" / "mine").mkdir(parents=True)
    (tmp_path / "tables" / "mine" / FUNCTIONS).write_bytes(b"")
    with pytest.raises(TableError, match="did you mean tables/mine"):
        read_table(Path("mine"))
