"""Statistics against scipy, statsmodels and simulation."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.multitest import multipletests

from analysis.stats import bootstrap_interval, holm, noise, paired, probability_best, seeds_needed


def test_paired_is_scipys_paired_test():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.9, 0.01, 6), rng.normal(0.89, 0.01, 6)
    found = paired(dict(enumerate(a)), dict(enumerate(b)))
    expected = stats.ttest_rel(a, b)
    interval = expected.confidence_interval(0.95)
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.mean - found.half_width, found.mean + found.half_width) == pytest.approx(tuple(interval))
    assert (found.std, found.n) == (pytest.approx(np.std(a - b, ddof=1)), 6)


def test_only_seeds_that_both_have_are_compared():
    found = paired({1: 0.9, 2: 0.8, 3: math.nan, 4: 0.7}, {2: 0.7, 1: 0.9, 3: 0.5, 5: 0.1})
    assert (found.mean, found.n) == (pytest.approx(0.05), 2)


def test_too_few_seeds_say_little():
    assert all(math.isnan(value) for value in vars(paired({}, {1: 0.5})).values() if value != 0)
    one = paired({1: 0.6}, {1: 0.5})
    assert one.mean == pytest.approx(0.1)
    assert math.isnan(one.half_width)
    assert math.isnan(one.p)


def test_differences_without_any_spread_are_no_proof():
    """Three seeds whose accuracies on 360 images happen to differ by the same number of images."""
    same = paired({1: 0.90, 2: 0.91, 3: 0.92}, {1: 0.89, 2: 0.90, 3: 0.91})
    assert same.mean == pytest.approx(0.01)
    assert math.isnan(same.p)
    assert math.isnan(same.half_width)  # ± 0 would look like certainty
    assert math.isnan(paired({1: 0.9, 2: 0.8}, {1: 0.9, 2: 0.8}).p)


def test_holm_by_hand():
    """Sorted p values times the number of hypotheses that are left, never falling."""
    assert holm([0.01, 0.04, 0.03], 3) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.01, math.nan, 0.03], 10) == pytest.approx([0.1, math.nan, 0.27], nan_ok=True)
    assert holm([], 5).shape == (0,)


@pytest.mark.parametrize("others", [0, 7])
def test_holm_agrees_with_statsmodels(others):
    p = np.random.default_rng(others).uniform(size=30) ** 4
    expected = multipletests(np.concatenate([p, np.ones(others)]), method="holm")[1][:30]
    assert holm(p, 30 + others) == pytest.approx(expected)


def test_holm_counts_those_that_were_not_tested():
    assert holm([0.001], 100)[0] == pytest.approx(0.1)
    with pytest.raises(ValueError, match="at least as many candidates as were tested: 3 tests, race 2"):
        holm([0.1, 0.2, 0.3], 2)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.integers(0, 50))
def test_holm_keeps_the_order_and_lies_between_none_and_bonferroni(p, others):
    race = len(p) + others
    corrected = holm(p, race)
    assert np.all(corrected >= np.array(p) - 1e-12)
    assert np.all(corrected <= np.minimum(1, np.array(p) * race) + 1e-12)
    order = np.argsort(p, kind="stable")
    assert np.all(np.diff(corrected[order]) >= -1e-12)


def test_under_the_null_holm_errs_in_one_race_of_twenty():
    """200 races of 20 functions that are all equal to the reference, 5 seeds: the share with any discovery."""
    rng = np.random.default_rng(1)
    wrong = 0
    for _ in range(200):
        x = rng.normal(size=(21, 5))
        p = [paired(dict(enumerate(row)), dict(enumerate(x[0]))).p for row in x[1:]]
        wrong += bool((holm(p, 20) < 0.05).any())
    assert wrong / 200 < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 200)


def test_bootstrap_interval():
    x = np.random.default_rng(3).normal(0.9, 0.02, 40)
    low, high = bootstrap_interval(list(x))
    half = stats.t.ppf(0.975, 39) * x.std(ddof=1) / math.sqrt(40)
    assert low == pytest.approx(x.mean() - half, abs=0.1 * half)  # 40 normal values: as by t
    assert high == pytest.approx(x.mean() + half, abs=0.1 * half)
    assert bootstrap_interval(list(x)) == (low, high)  # always the same
    assert bootstrap_interval([0.5, 0.5, 0.5]) == (0.5, 0.5)
    assert all(math.isnan(end) for end in bootstrap_interval([0.5, 0.6]))


def test_five_seeds_cover_less_than_they_say():
    """As the module's docstring has it."""
    rng = np.random.default_rng(5)
    intervals = [bootstrap_interval(list(rng.normal(size=5))) for _ in range(300)]
    assert 0.75 < np.mean([low <= 0 <= high for low, high in intervals]) < 0.93


def simulated_power(effect: float, seeds: int, alpha: float) -> float:
    x = np.random.default_rng(0).normal(effect, 1, (20_000, seeds))
    return float((stats.ttest_1samp(x, 0, axis=1).pvalue < alpha).mean())


@pytest.mark.parametrize(("difference", "race"), [(1.0, 1), (0.4, 1), (1.2, 10), (2.0, 100)])
def test_so_many_seeds_have_a_power_of_80_percent(difference, race):
    seeds = seeds_needed(difference, 1.0, race)
    assert simulated_power(difference, int(seeds), 0.05 / race) > 0.785
    assert simulated_power(difference, int(seeds) - 1, 0.05 / race) < 0.815


def test_seeds_needed_at_the_edges():
    assert seeds_needed(0.001, 1.0) == math.inf
    assert seeds_needed(0.0, 1.0) == math.inf
    assert math.isnan(seeds_needed(1.0, 0.0))
    assert math.isnan(seeds_needed(0.005, 1e-17))
    assert seeds_needed(-50.0, 1.0, 1000) == seeds_needed(50.0, 1.0, 1000) < 10
    assert math.isnan(seeds_needed(1.0, math.nan))


@given(st.floats(0.15, 50), st.integers(1, 2000))
def test_seeds_needed_fall_as_the_difference_grows(effect, race):
    """Also where scipy's noncentral t has holes."""
    assert seeds_needed(1.2 * effect, 1.0, race) <= seeds_needed(effect, 1.0, race)


def table(functions: int, seeds: int, spread: float, rng) -> pd.DataFrame:
    x = rng.normal(size=(functions, 1)) + 3 * rng.normal(size=(1, seeds)) + spread * rng.normal(size=(functions, seeds))
    return pd.DataFrame(x, index=[f"f{i}" for i in range(functions)], columns=range(seeds))


def test_noise_is_the_residual_of_the_two_way_analysis_of_variance():
    results = table(6, 4, 0.5, np.random.default_rng(2))
    long = results.melt(ignore_index=False).reset_index()
    fitted = anova_lm(ols("value ~ C(index) + C(variable)", long).fit())
    found = noise(results)
    assert found.std == pytest.approx(math.sqrt(fitted.loc["Residual", "mean_sq"]))
    assert found.degrees == fitted.loc["Residual", "df"] == 15
    assert found.floor(4) == pytest.approx(stats.t.ppf(0.975, 15) * found.std * math.sqrt(2 / 4))


def test_functions_with_other_seeds_do_not_count_for_the_noise():
    results = table(6, 4, 0.5, np.random.default_rng(2))
    more = pd.concat([results, pd.DataFrame([[9.0, math.nan, math.nan, math.nan]], index=["odd"])])
    assert noise(more) == noise(results)
    assert math.isnan(noise(results.iloc[:1]).floor(3))
    assert math.isnan(noise(pd.DataFrame()).std)


def test_probability_best_is_that_of_two_normal_means():
    """Of two functions it is the tail of a t distribution."""
    results = pd.DataFrame([[1.0, 1.4, 0.9], [0.8, 1.3, 0.5]], index=["a", "b"])
    found = noise(results)
    difference = results.mean(axis=1)["a"] - results.mean(axis=1)["b"]
    expected = stats.t.cdf(difference / (found.std * math.sqrt(2 / 3)), found.degrees)
    assert probability_best(results)["a"] == pytest.approx(expected, abs=0.012)
    assert probability_best(results).sum() == pytest.approx(1)


def test_probability_best_of_what_is_not_known():
    results = pd.DataFrame([[1.0, 1.4], [0.8, 1.3], [math.nan, math.nan]], index=["a", "b", "c"])
    assert math.isnan(probability_best(results)["c"])
    assert probability_best(results)[["a", "b"]].sum() == pytest.approx(1)
    assert probability_best(results.iloc[:1]).isna().all()


def test_a_function_that_nearly_diverged_does_not_hide_who_is_best():
    results = table(30, 4, 0.1, np.random.default_rng(4))
    results.loc["f0"] += 100
    assert probability_best(results)["f0"] == pytest.approx(1)
    results.loc["wild"] = [-1e9, -1.0, -1e18, -5.0]
    assert probability_best(results)["f0"] == pytest.approx(1)
