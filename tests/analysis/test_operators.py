"""Shares and trends against numbers worked out by hand, by scipy, or by brute force."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.operators import findings, operator_shares, operators_of, superiority, uses, uses_raw_x, wilson
from analysis.searched import best_part, failures_by_reason, in_order
from analysis.searched import searched as functions_of
from search_spaces.parser import parse
from tests.made_reports import made_study, searched


def test_shares_of_the_best_tenth_are_counted_by_hand(tmp_path):
    sines = {f"sin({n} * x)": 0.9 + n / 1000 for n in range(1, 4)}
    rest = {f"tanh({n} * x)": 0.5 + n / 1000 for n in range(1, 15)} | {f"x / {n}": None for n in range(2, 5)}
    with made_study(tmp_path, searched(sines | rest)) as study:
        functions = uses(study)
    table = operator_shares(functions).set_index("operator")
    assert list(functions.loc[functions["best"], "formula"]) == ["sin(2 * x)", "sin(3 * x)"]  # 2 of 20
    assert table.loc["sin", ["count", "best_count"]].tolist() == [3, 2]
    assert table.loc["sin", "lift"] == pytest.approx(1.0 / (3 / 20))
    assert table.loc["mul", "share"] == pytest.approx(17 / 20)
    assert table.loc["div", "best_share"] == 0
    expected = stats.fisher_exact([[2, 0], [1, 17]]).pvalue
    assert table.loc["sin", "p"] == pytest.approx(min(1.0, 4 * expected))  # the smallest of four


@pytest.mark.parametrize(("count", "total"), [(0, 10), (3, 10), (81, 81), (5, 400)])
def test_wilsons_interval_is_scipys(count, total):
    expected = stats.binomtest(count, total).proportion_ci(method="wilson")
    assert wilson(count, total) == pytest.approx((expected.low, expected.high))


def test_superiority_is_the_share_of_pairs_and_covers_it():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 6, 30).astype(float), rng.integers(0, 5, 40).astype(float)
    pairs = np.mean([(x > y) + 0.5 * (x == y) for x in a for y in b])
    ahead, low, high = superiority(a, b)
    assert ahead == pytest.approx(pairs)
    assert low < pairs < high
    draws = [superiority(rng.choice(a, 30), rng.choice(b, 40))[0] for _ in range(2000)]
    assert (high - low) / 2 == pytest.approx(1.96 * np.std(draws), rel=0.1)


@pytest.mark.parametrize(
    ("formula", "raw"),
    [
        ("x * sigmoid(x)", True),
        ("max(x, 0)", True),
        ("-x * erfc(x)", True),
        ("beta * (2 * x + sin(x))", True),
        ("sin(x) + cos(x)", False),
        ("tanh(x)", False),
        ("2 * x", False),
        ("sigmoid(x + sin(x))", False),
    ],
)
def test_which_functions_use_the_raw_x(formula, raw):
    assert uses_raw_x(parse(formula)) is raw


def test_operators_of_an_expression():
    assert operators_of(parse("x * sigmoid(x) + x ** 2")) == {"mul", "sigmoid", "add", "square"}


def test_what_is_planted_is_found_and_what_is_not_is_not(tmp_path):
    rng = np.random.default_rng(1)
    good = {f"x * tanh({n} * x)": 0.8 + 0.1 * rng.random() for n in range(2, 32)}
    bad = {f"sin({n} * x) / cosh(x)": 0.4 + 0.1 * rng.random() for n in range(2, 32)}
    with made_study(tmp_path, searched(good | bad)) as study:
        functions = uses(study)
    simple, raw, periodic, division = findings(functions)
    assert raw.verdict == "supported"
    assert "100 % of pairs" in raw.numbers
    assert division.verdict == "supported"
    assert periodic.verdict == "not supported"  # none among the best
    assert simple.verdict == "supported"
    expected = stats.spearmanr(functions["complexity"].astype(float), functions["value"]).statistic
    assert f"{expected:+.2f}" in simple.numbers


def test_few_functions_say_nothing(tmp_path):
    with made_study(tmp_path, searched({"tanh(x)": 0.9, "sin(x)": 0.8, "x / cosh(x)": 0.7})) as study:
        assert {finding.verdict for finding in findings(uses(study))} == {"too few functions"}


def test_places_put_pruned_functions_below_completed_and_failed_ones_last(tmp_path):
    rows = searched({"tanh(x)": 0.6, "sin(x)": 0.9, "x / cosh(x)": None, "cos(x)": None})
    rows += searched({"atan(x)": 0.95, "erf(x)": 0.1}, "PRUNED")
    with made_study(tmp_path, rows) as study:
        table = functions_of(study).set_index("formula")
        best = best_part(functions_of(study))
    order = table["place"].sort_values(ascending=False)
    assert list(order.index[:2]) == ["sin(x)", "tanh(x)"]
    assert table.loc["atan(x)", "place"] == table.loc["erf(x)", "place"] == 3.5
    assert table.loc["cos(x)", "place"] == 1.5
    assert list(best["formula"]) == ["sin(x)"]


def test_the_best_so_far_is_of_completed_trials_in_the_order_of_their_end(tmp_path):
    rows = [("tanh(x)", "search", 0, 0.5, "COMPLETE"), ("sin(x)", "search", 0, 0.9, "PRUNED")]
    rows += [("erf(x)", "search", 0, 0.7, "COMPLETE"), ("cos(x)", "search", 0, 0.6, "COMPLETE")]
    with made_study(tmp_path, rows) as study:
        table = in_order(study)
    expected = pd.Series([0.5, np.nan, 0.7, 0.6]).cummax().ffill()
    assert table["best"].tolist() == expected.tolist()


def test_reasons_that_differ_in_numbers_are_one(tmp_path):
    with made_study(tmp_path, searched({"tanh(x)": None, "sin(x)": None})) as study:
        trials = study.trials
        trials.loc[0, "reason"] = "diverged: loss nan in epoch 1 (6.4e+09)"
        trials.loc[1, "reason"] = "diverged: loss nan in epoch 12 (-1e3)"
        table = failures_by_reason(study)
    assert table["trials"].tolist() == [2]
    assert table["pattern"].tolist() == ["diverged: loss nan in epoch N (N)"]
