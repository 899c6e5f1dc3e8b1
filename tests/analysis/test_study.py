"""A study as tables of pandas, alone and beside others."""

from __future__ import annotations

import json
import math
import shutil
import sqlite3

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.filters import Wanted
from analysis.leaderboard import COLUMNS, of_trials
from analysis.stats import holm
from analysis.store import Record, Store, StoreError
from analysis.study import Study, StudyError, together, write_frame
from analysis.trials import TRIAL_COLUMNS
from tests.records import make_result, make_trial
from trainers.trial import TrialResult, TrialState

SEEDS = (1, 2, 3, 4)
CONFIRMED = {  # key: (name, test accuracy by seed)
    "relu": ("ReLU", (0.80, 0.81, 0.79, 0.80)),
    "silu": ("SiLU", (0.84, 0.84, 0.84, 0.83)),
    "good": (None, (0.85, 0.87, 0.86, 0.85)),
    "even": (None, (0.81, 0.80, 0.80, 0.79)),
}


def confirmed(store: Store, setting: str | None = None, shift: float = 0.0) -> None:
    for seed_index, seed in enumerate(SEEDS):
        for key, (name, values) in CONFIRMED.items():
            number = len(store.records()) + 1
            trial = make_trial(number, f"{len(key)} * tanh(x)", "confirm", seed, score_on="test", setting=setting)
            store.launch(Record(trial, key, key, name, None))
            accuracy = values[seed_index] + shift
            metrics = {"epoch": 2, "test_accuracy": accuracy, "test_loss": 1 - accuracy, "train_loss": 0.1}
            store.finish(number, TrialResult(TrialState.COMPLETE, metrics, [{"epoch": 1, "train_loss": 0.3}, metrics]))


@pytest.fixture
def run(tmp_path):
    """Two functions searched, one of which failed; four confirmed at home and elsewhere."""
    path = tmp_path / "first"
    path.mkdir()
    config = {"name": "made", "search": {"objective": "val_accuracy"}, "model": {"name": "resnet8"}}
    with Store.create(path, config) as store:
        for key, accuracy in (("good", 0.9), ("even", 0.95), ("bad", None)):
            number = len(store.records()) + 1
            store.launch(Record(make_trial(number, f"{number} * sin(x)"), key, key, None, None))
            state = TrialState.FAIL if accuracy is None else TrialState.COMPLETE
            store.finish(number, make_result(accuracy, state))
        confirmed(store)
        confirmed(store, "elsewhere", -0.2)
        store.put("settings", {"elsewhere": {"search": {"objective": "val_loss"}}})
    return path


def test_columns_of_trials_have_the_types_that_are_documented(run):
    with Study(run) as study:
        trials = study.trials
        assert {name: str(trials[name].dtype) for name in trials} == {n: kind for n, (kind, _) in TRIAL_COLUMNS.items()}
        assert len(trials) == 3 + 2 * 16
        first = trials.iloc[0]
        assert (first["val_accuracy"], first["complexity"], first["state"]) == (0.9, 4, "COMPLETE")
        assert trials["setting"].isna().sum() == 3 + 16


def test_learning_curves_are_the_reports(run):
    with Study(run) as study:
        curve = study.epochs[study.epochs["id"] == 4]
    assert curve["epoch"].tolist() == [1, 2]
    assert curve["train_loss"].tolist() == [0.3, 0.1]
    assert math.isnan(curve["test_accuracy"].iloc[0])


def test_confirmed_functions_are_ranked_by_the_test_set(run):
    with Study(run) as study:
        rows = study.leaderboard()
    assert list(rows.columns) == list(COLUMNS)
    assert rows["function_key"].tolist() == ["good", "silu", "relu", "even", "bad"]
    good = rows.iloc[0]
    assert (good["metric"], good["stage"], good["n_seeds"]) == ("test_accuracy", "confirm", 4)
    assert good["value"] == pytest.approx(np.mean(CONFIRMED["good"][1]))
    assert math.isnan(good["val_accuracy"])
    assert rows.set_index("function_key")["found"].to_dict() == {
        "good": True,
        "silu": False,
        "relu": False,
        "even": True,
        "bad": True,
    }


def test_comparisons_agree_with_scipy_over_the_race_of_the_confirmed(run):
    with Study(run) as study:
        rows = study.leaderboard().set_index("function_key")
    relu = np.array(CONFIRMED["relu"][1])
    p = {key: stats.ttest_rel(values, relu).pvalue for key, (_, values) in CONFIRMED.items() if key != "relu"}
    assert rows.loc["good", "vs_relu_p"] == pytest.approx(p["good"])
    corrected = dict(zip(p, holm(list(p.values()), 3), strict=True))
    for key, value in corrected.items():
        assert rows.loc[key, "vs_relu_holm"] == pytest.approx(value)
    assert rows.loc["good", "race"] == 3
    assert rows.loc["good", "vs_silu"] == pytest.approx(np.mean(CONFIRMED["good"][1]) - np.mean(CONFIRMED["silu"][1]))
    assert rows["p_best"].sum() == pytest.approx(1)
    assert rows["p_best"].idxmax() == "good"
    assert math.isnan(rows.loc["bad", "p_best"])


def test_retrained_functions_race_against_all_that_were_searched(run):
    """They were picked by the same validation images."""
    with Store.open(run, write=True) as store:
        for key, name in (("relu", "ReLU"), ("good", None)):
            for seed in (7, 8, 9):
                number = len(store.records()) + 1
                store.launch(Record(make_trial(number, f"{len(key)} * tanh(x)", "retrain", seed), key, key, name, None))
                store.finish(number, make_result(0.9 + seed / 1000 + (key == "good") * seed / 500))
    with Study(run) as study:
        trials = study.trials[study.trials["stage"] != "confirm"]
    rows = of_trials(trials, objective="val_accuracy").set_index("function_key")
    assert rows.loc["good", "race"] == 3  # good, even, bad; ReLU is what they are compared with
    assert rows.loc["good", "vs_relu_holm"] == pytest.approx(min(1, 3 * rows.loc["good", "vs_relu_p"]))


def test_another_setting_has_a_leaderboard_and_an_objective_of_its_own(run):
    with Study(run) as study:
        assert study.settings == ("elsewhere",)
        rows = study.leaderboard(setting="elsewhere").set_index("function_key")
    assert set(rows.index) == set(CONFIRMED)
    assert rows.loc["good", "metric"] == "test_loss"
    assert rows.loc["good", "rank"] == 1
    assert rows.loc["good", "vs_relu"] < 0
    assert rows.loc["good", "test_accuracy"] == pytest.approx(np.mean(CONFIRMED["good"][1]) - 0.2)
    assert rows["found"].sum() == 2


def test_an_unknown_setting_is_refused(run):
    with (
        Study(run) as study,
        pytest.raises(StudyError, match="was not confirmed in 'elswhere'; did you mean 'elsewhere'"),
    ):
        together([study], Wanted(), setting="elswhere")


def test_studies_that_trained_alike_are_ranked_by_value(run, tmp_path):
    shutil.copytree(run, tmp_path / "second")
    with sqlite3.connect(tmp_path / "second" / "study.db") as db:
        db.execute("UPDATE trials SET result = replace(result, '0.86', '0.99') WHERE stage = 'confirm'")
    db.close()
    with Study(run) as one, Study(tmp_path / "second") as two:
        rows = together([one, two], Wanted(confirmed=True))
    assert rows.loc[:1, "run"].tolist() == ["second", "first"]
    assert rows.loc[:1, "function_key"].tolist() == ["good", "good"]
    assert len(rows) == 8


def test_studies_that_trained_otherwise_are_ordered_by_the_difference_to_their_own_relu(run, tmp_path):
    shutil.copytree(run, tmp_path / "second")
    with sqlite3.connect(tmp_path / "second" / "study.db") as db:
        db.execute("UPDATE study SET value = replace(value, 'resnet8', 'vit') WHERE key = 'config'")
        db.execute(
            "UPDATE trials SET result = replace(result, '0.8', '0.9') WHERE stage = 'confirm' AND setting IS NULL"
        )
    db.close()
    with Study(run) as one, Study(tmp_path / "second") as two:
        rows = together([one, two], Wanted(confirmed=True))
    assert rows["vs_relu"].is_monotonic_decreasing
    assert not rows["value"].is_monotonic_decreasing


def board(**columns) -> pd.DataFrame:
    rows = {
        "rank": [1, 2, 3, 4],
        "formula": ["x * sigmoid(x)", "max(x, 0)", "x ** 2", "sin(x)"],
        "name": ["SiLU", "ReLU", None, None],
        "likeness": ["= SiLU", "= ReLU", None, "Swish family"],
        "complexity": pd.array([4, 3, 3, 2], "Int64"),
        "cost": [2.0, 1.0, math.nan, 3.0],
        "seconds": [5.0, 4.0, 3.0, 6.0],
        "state": ["COMPLETE"] * 3 + ["FAIL"],
        "stage": ["confirm", "retrain", "search", "search"],
    }
    return pd.DataFrame(rows | columns)


@pytest.mark.parametrize(
    ("wanted", "ranks"),
    [
        (Wanted(), [1, 2, 3, 4]),
        (Wanted(family="swish"), [1, 4]),
        (Wanted(family="relu"), [2]),
        (Wanted(family="known"), [1, 2]),
        (Wanted(family="SIGMOID("), [1]),
        (Wanted(max_complexity=3), [2, 3, 4]),
        (Wanted(max_cost=2), [1, 2]),
        (Wanted(confirmed=True), [1]),
        (Wanted(pareto="complexity"), [1, 2]),  # the third is no simpler than the second, the fourth has failed
        (Wanted(pareto="cost"), [1, 2]),
        (Wanted(pareto="seconds"), [1, 2, 3]),
        (Wanted(family="swish", pareto="seconds"), [1]),
        (Wanted(family="nothing like it"), []),
    ],
)
def test_filters(wanted, ranks):
    assert wanted.of(board())["rank"].tolist() == ranks


def test_filters_of_an_empty_table():
    empty = pd.DataFrame(columns=list(COLUMNS))
    assert Wanted(family="swish", pareto="cost").of(empty).empty


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".json"])
def test_written_tables_are_read_back(run, tmp_path, suffix):
    path = tmp_path / f"table{suffix}"
    with Study(run) as study:
        assert write_frame([study.trials], path) == 35
        expected = study.trials
    readers = {
        ".csv": pd.read_csv,
        ".parquet": pd.read_parquet,
        ".json": lambda p: pd.DataFrame(json.loads(p.read_text())),
    }
    read = readers[suffix](path)
    assert list(read.columns) == list(expected.columns)
    assert read["val_accuracy"].tolist()[:2] == [0.9, 0.95]
    if suffix == ".parquet":
        pd.testing.assert_frame_equal(read, expected)


def test_other_formats_and_places_are_refused(tmp_path):
    with pytest.raises(StudyError, match=r"written as \.csv, \.json or \.parquet, got 'a\.xlsx'"):
        write_frame([board()], tmp_path / "a.xlsx")
    with pytest.raises(StudyError, match="cannot be written"):
        write_frame([board()], tmp_path / "no" / "a.csv")


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE trials SET seconds = 'long' WHERE id = 1",
        "UPDATE trials SET state = 'GREAT' WHERE id = 1",
        "UPDATE trials SET result = '{' WHERE id = 1",
        "UPDATE trials SET result = '[]' WHERE id = 1",
        'UPDATE trials SET result = \'{"metrics": {"val_loss": "low"}}\' WHERE id = 1',
        "UPDATE trials SET formula = x'8004' WHERE id = 1",
        "UPDATE trials SET seed = x'00' WHERE id = 1",
        "ALTER TABLE trials DROP COLUMN formula",
        "DROP TABLE trials",
    ],
)
def test_a_strangers_values_are_refused(run, damage):
    with sqlite3.connect(run / "study.db") as db:
        db.execute(damage)
    db.close()
    with Study(run) as study, pytest.raises(StoreError, match="cannot be read as a study"):
        study.leaderboard()


def test_nas_study_is_this_class(run):
    import nas

    with nas.Study(run) as study:
        assert isinstance(study, Study)
        assert study.name == "first"
        assert study.config["name"] == "made"
    with pytest.raises(AttributeError, match="no attribute 'Studi'"):
        _ = nas.Studi
