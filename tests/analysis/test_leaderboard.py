"""The leaderboard: aggregation, ranking and intervals against numbers worked out independently."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import stats

from analysis.leaderboard import COLUMNS, SORT_KEYS, leaderboard
from analysis.store import Record, Store
from analysis.trials import to_records
from tests.records import make_result, make_trial
from trainers.trial import TrialState

ROWS = [  # key, known name, stage, seed, accuracy, state
    ("relu", "ReLU", "retrain", 1, 0.90, "COMPLETE"),
    ("a", None, "search", 0, 0.99, "COMPLETE"),
    ("b", None, "search", 0, 0.97, "COMPLETE"),
    ("c", None, "search", 0, 0.98, "COMPLETE"),
    ("d", None, "search", 0, 0.50, "PRUNED"),
    ("e", None, "search", 0, None, "FAIL"),
    ("relu", "ReLU", "retrain", 2, 0.92, "COMPLETE"),
    ("a", None, "retrain", 1, 0.91, "COMPLETE"),
    ("a", None, "retrain", 2, 0.93, "COMPLETE"),
    ("b", None, "retrain", 1, 0.95, "COMPLETE"),
    ("b", None, "retrain", 2, 0.94, "COMPLETE"),
    ("b", None, "retrain", 3, None, "FAIL"),
]


@pytest.fixture
def store(tmp_path):
    with Store.create(tmp_path, {"search": {"objective": "val_accuracy"}}) as store:
        for number, (key, name, stage, seed, accuracy, state) in enumerate(ROWS, 1):
            trial = make_trial(number, f"{number} * tanh(x)", stage, seed)
            store.launch(Record(trial, key, f"f_{key}(x)", name, None))
            store.finish(number, make_result(accuracy, TrialState(state)))
        yield store


def by_key(store, **kwargs):
    return {row["function_key"]: row for row in to_records(leaderboard(store, **kwargs))}


def test_retrained_functions_are_judged_by_their_fresh_seeds_and_come_first(store):
    rows = by_key(store)
    order = [key for key, _ in sorted(rows.items(), key=lambda item: item[1]["rank"])]
    assert order == ["a", "relu", "b", "c", "d", "e"]  # b is better, but one of its seeds failed
    assert rows["a"]["val_accuracy"] == pytest.approx(0.92)  # not the 0.99 it was picked for
    assert rows["a"]["seeds"] == [1, 2]
    assert rows["c"]["n_seeds"] == 1
    assert rows["c"]["val_accuracy"] == 0.98


def test_spread_and_difference_to_relu_agree_with_numpy_and_scipy(store):
    row = by_key(store)["b"]
    assert row["val_accuracy_std"] == pytest.approx(np.std([0.95, 0.94], ddof=1))
    differences = np.array([0.95 - 0.90, 0.94 - 0.92])
    interval = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert row["vs_relu"] == pytest.approx(differences.mean())
    assert row["vs_relu_ci95"] == pytest.approx((interval.high - interval.low) / 2)


def test_a_failed_retraining_is_not_averaged_in(store):
    row = by_key(store)["b"]
    assert (row["n_seeds"], row["n_failed"], row["state"], row["seeds"]) == (2, 1, "COMPLETE", [1, 2])


def test_states_reasons_and_baselines(store):
    rows = by_key(store)
    assert {key: row["state"] for key, row in rows.items()}["d"] == "PRUNED"
    assert rows["e"]["reason"] == "diverged"
    assert rows["e"]["val_accuracy"] is None
    assert [key for key, row in rows.items() if not row["found"]] == ["relu"]
    assert rows["relu"]["name"] == "ReLU"
    assert rows["a"]["name"] is None
    assert rows["c"]["vs_relu"] is None  # no ReLU with the seed of the search stage


def add(store, number, key, name, stage, seed, accuracy, state="COMPLETE", **metrics):
    store.launch(Record(make_trial(number, "tanh(x)", stage, seed), key, key, name, None))
    if state != "RUNNING":
        result = make_result(accuracy, TrialState(state))
        store.finish(number, dataclasses.replace(result, metrics=result.metrics | metrics))


@pytest.mark.parametrize("state", ["FAIL", "RUNNING"])
def test_only_complete_seeds_of_relu_are_compared_with(tmp_path, state):
    with Store.create(tmp_path, {}) as store:
        for seed in (1, 2):
            add(store, seed, "relu", "ReLU", "retrain", seed, 0.90 + 0.01 * seed)
            add(store, 10 + seed, "a", None, "retrain", seed, 0.92 + 0.02 * seed)
        add(store, 3, "relu", "ReLU", "retrain", 3, 0.3, state)  # it ran out of time, or is not done
        add(store, 13, "a", None, "retrain", 3, 0.95)
        row = by_key(store)["a"]
    interval = stats.ttest_rel([0.94, 0.96], [0.91, 0.92]).confidence_interval(0.95)
    assert row["vs_relu"] == pytest.approx(0.035)
    assert row["vs_relu_ci95"] == pytest.approx((interval.high - interval.low) / 2)
    assert row["n_seeds"] == 3


@pytest.mark.parametrize("objective", ["val_accuracy", "val_loss", "train_loss", "train_loss_sum"])
def test_ranks_follow_the_objective(tmp_path, objective):
    worst = {"val_accuracy": 0.1, "val_loss": 9.0, "train_loss": 9.0, "train_loss_sum": 9.0}
    with Store.create(tmp_path, {"search": {"objective": objective}}) as store:
        others = {name: value for name, value in worst.items() if name != objective}
        add(store, 1, "best", None, "search", 0, 0.9, **others)
        add(store, 2, "rest", None, "search", 0, 0.8)
        assert leaderboard(store)["function_key"].tolist() == ["best", "rest"]


def test_orders(store):
    for sort in SORT_KEYS:
        assert set(by_key(store, sort=sort)) == {"a", "b", "c", "d", "e", "relu"}
    complete = leaderboard(store, "val_accuracy").query("state == 'COMPLETE'")
    assert complete["val_accuracy"].is_monotonic_decreasing
    assert leaderboard(store, "val_loss").query("state == 'COMPLETE'")["val_loss"].is_monotonic_increasing
    assert leaderboard(store, "val_accuracy")["state"].tolist() == ["COMPLETE"] * 4 + ["PRUNED", "FAIL"]
    assert list(leaderboard(store).columns) == list(COLUMNS)


def test_an_empty_study_has_an_empty_leaderboard(tmp_path):
    with Store.create(tmp_path, {}) as store:
        assert leaderboard(store).empty


def test_text_is_ranked_by_bits_per_byte_and_smaller_is_better(tmp_path):
    figures = [("relu", "ReLU", 1, 2.0), ("relu", "ReLU", 2, 2.2), ("a", None, 1, 1.9), ("a", None, 2, 2.0)]
    with Store.create(tmp_path, {"search": {"objective": "val_bpb"}}) as store:
        for number, (key, name, seed, bpb) in enumerate(figures, 1):
            store.launch(Record(make_trial(number, f"{number} * tanh(x)", "retrain", seed), key, key, name, None))
            result = make_result(0.5)
            store.finish(number, dataclasses.replace(result, metrics=result.metrics | {"val_bpb": bpb}))
        rows, by_relu = by_key(store), to_records(leaderboard(store, "vs_relu"))
    assert (rows["a"]["rank"], rows["relu"]["rank"]) == (1, 2)
    assert rows["a"]["val_bpb"] == pytest.approx(1.95)
    assert rows["a"]["val_bpb_std"] == pytest.approx(np.std([1.9, 2.0], ddof=1))
    assert rows["a"]["vs_relu"] == pytest.approx(-0.15)
    assert rows["a"]["metric"] == "val_bpb"
    assert [row["function_key"] for row in by_relu] == ["a", "relu"]
