"""Which rows of a leaderboard a page shows, and in which order."""

from __future__ import annotations

import pytest

from analysis.trials import to_records
from nas.dashboard.board import COLUMNS, Query, columns_of, find, merged, page_of
from nas.dashboard.leaderboard_page import (
    dead_ends,
    fill,
    heading_class,
    next_order,
    present,
    query_of,
    turned_page,
)
from nas.dashboard.studies import Studies
from tests.nas.dashboard.studies import made


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return Studies([made(tmp_path_factory.mktemp("runs"), "tiny", "search.trials=30")]).get("tiny")


def test_by_rank_it_is_the_leaderboard(study):
    assert find(study, Query())["function_key"].tolist() == study.leaderboard()["function_key"].tolist()


def test_every_column_can_be_sorted_both_ways(study):
    everything = set(study.leaderboard()["function_key"])
    for name in COLUMNS:
        for turned in (False, True):
            assert set(find(study, Query(sort=name, turned=turned))["function_key"]) == everything


def test_the_best_come_first(study):
    complete = find(study, Query(state="COMPLETE", sort="accuracy"))
    assert complete["accuracy"].is_monotonic_decreasing
    assert find(study, Query(state="COMPLETE", sort="loss"))["loss"].is_monotonic_increasing
    assert find(study, Query(state="COMPLETE", sort="loss", turned=True))["loss"].is_monotonic_decreasing
    assert find(study, Query(sort="formula"))["formula"].is_monotonic_increasing


def test_filters(study):
    assert find(study, Query(text="TANH"))["formula"].str.contains("tanh").all()
    assert len(find(study, Query(text="TANH"))) > 0
    assert (find(study, Query(max_nodes=5))["complexity"] <= 5).all()
    assert find(study, Query(only=("confirmed",))).empty
    front = find(study, Query(only=("pareto",)))
    assert 0 < len(front) < len(study.leaderboard())
    assert find(study, Query(text="(", family=None))["formula"].str.contains("(", regex=False).all()  # no pattern


def test_what_a_browser_makes_up_is_passed_over(study):
    query = query_of(
        {"text": 7, "state": "x", "nodes": "many", "only": "all", "family": None, "setting": "../x"},
        {"sort": "__class__"},
    )
    assert len(find(study, query)) == len(study.leaderboard())
    assert len(find(study, Query(max_nodes=float("inf")))) == len(study.leaderboard())


def test_pages(study):
    rows = find(study, Query())
    part, page, pages = page_of(rows, 0, 10)
    assert (len(part), page, pages) == (10, 0, 3)
    part, page, pages = page_of(rows, 10**9, 10)
    assert (len(part), page) == (len(rows) - 20, 2)
    assert page_of(rows.head(0), 3)[1:] == (0, 1)
    assert [turned_page(page, to) for page, to in ((None, "next"), (0, "previous"), (5, "first"))] == [1, 0, 0]


def test_the_rows_of_a_page(study):
    names = columns_of(study.leaderboard())
    rows, count, page, pages = fill(study, Query(), 0, names)
    assert len(rows) == 24
    assert all(len(row.children) == len(names) for row in rows)
    assert (count, page, pages) == ("24 functions", 0, 1)
    rows, count, page, pages = fill(study, Query(text="nothing like it"), 4, names)
    assert (count, page, pages) == ("0 functions", 0, 1)


def test_several_pages(study, monkeypatch):
    monkeypatch.setattr("nas.dashboard.leaderboard_page.ROWS", 10)
    monkeypatch.setattr("nas.dashboard.leaderboard_page.page_of", lambda rows, page: page_of(rows, page, 10))
    _, count, page, pages = fill(study, Query(), 1, columns_of(study.leaderboard()))
    assert (count, page, pages) == ("11 to 20 of 24 functions; page 2 of 3", 1, 3)
    assert dead_ends(0, 3, ["first", "previous", "next", "last"]) == [True, True, False, False]
    assert dead_ends(2, 3, ["first", "previous", "next", "last"]) == [False, False, True, True]


def test_columns_that_a_setting_does_not_have_are_absent(study):
    assert present(study, Query(), ["rank", "accuracy", "bpb"]) == ["rank", "accuracy"]
    assert "absent" in heading_class("bpb", {}, absent=True)


def test_a_second_click_turns_the_order():
    order = next_order(None, "loss")
    assert order == {"sort": "loss", "turned": False}
    assert next_order(order, "loss") == {"sort": "loss", "turned": True}
    assert next_order(order, "seconds") == {"sort": "seconds", "turned": False}


def test_confirmed_functions_are_shown_by_the_test_set(study):
    board = study.leaderboard().head(2).assign(test_accuracy=[0.5, 0.6], stage=["confirm", "search"])
    first, second = to_records(merged(board))
    assert first["accuracy"] == 0.5
    assert second["accuracy"] == second["val_accuracy"]
