"""Figures from replays, against loops over lists that share nothing with the code."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from analysis.replays import SWISH, Judge, figures, holm, paired_test
from analysis.yardstick import TableError
from tests.made_tables import made_table

RNG = np.random.default_rng(11)


def brute_regret(values: np.ndarray, replay: list[int], column: int, evaluations: int) -> list[float]:
    """As the docstring says it, number by number; ``values`` with NaN for failures, larger is better."""
    others = [c for c in range(values.shape[1]) if c != column]
    truth = [sum(row[c] for c in others) / len(others) for row in values]  # NaN as soon as one is
    known = sorted(t for t in truth if not math.isnan(t))
    best, median = known[-1], float(np.median(known))
    regrets = []
    for n in range(1, evaluations + 1):
        looked = [(values[f, column], -i, f) for i, f in enumerate(replay[:n]) if f >= 0]
        looked = [entry for entry in looked if not math.isnan(entry[0])]
        if not looked:
            regrets.append(best - median)
            continue
        chosen = max(looked)[2]  # among equals the first one evaluated
        regrets.append(best - median if math.isnan(truth[chosen]) else min(best - truth[chosen], best - median))
    return regrets


@pytest.mark.parametrize("metric", ["val_accuracy", "val_loss"])
@pytest.mark.parametrize("seeds", [2, 3])
def test_regret_is_that_of_brute_force(metric, seeds):
    """With failures, equal values, functions evaluated twice, evaluations that gave nothing, and early ends."""
    for _ in range(20):
        accuracy = RNG.choice(np.linspace(0, 1, 9), (15, seeds))
        accuracy[RNG.random(accuracy.shape) < 0.2] = np.nan
        accuracy[0], accuracy[1] = 0.5, 0.25  # there are two without a failure
        judge = Judge(made_table(accuracy), metric)
        replays = [RNG.integers(-1, 15, RNG.integers(0, 13)) for _ in range(2 * seeds)]
        found = figures(judge, replays, 12)
        signed = accuracy if metric == "val_accuracy" else -(1 - accuracy)
        expected = [brute_regret(signed, list(replay), i % seeds, 12) for i, replay in enumerate(replays)]
        np.testing.assert_allclose(found.regret, expected, atol=1e-12)
        assert found.regret_at(12).tolist() == found.regret[:, -1].tolist()


def test_luck_with_the_seed_that_was_seen_does_not_count():
    """Row 0 looks perfect with seed 0 and is poor with the others; row 1 is the best there is."""
    accuracy = np.array([[1.0, 0.3, 0.3], [0.8, 0.9, 0.9], [0.5, 0.6, 0.6], [0.2, 0.2, 0.2]])
    judge = Judge(made_table(accuracy), "val_accuracy")
    both = np.array([0, 1])
    median = np.median([0.3, 0.9, 0.6, 0.2])
    np.testing.assert_allclose(judge.regret(both, 0, 2), [0.9 - median, 0.9 - median])  # 0.6, but not beyond the median
    np.testing.assert_allclose(judge.regret(both, 1, 2), [(0.8 + 0.9) / 2 - 0.65, 0.0])  # seed 1 saw 0.3 and 0.9
    np.testing.assert_allclose(judge.regret(both, 3, 2), judge.regret(both, 0, 2))  # replay 3 sees seed 0 again
    assert judge.truth(0).value.tolist() == pytest.approx([0.3, 0.9, 0.6, 0.2])
    assert judge.truth(0).seen.tolist() == [1.0, 0.8, 0.5, 0.2]


def test_a_function_that_failed_with_another_seed_is_worth_the_median():
    accuracy = np.array([[0.99, np.nan, 0.99], [0.9, 0.9, 0.9], [0.5, 0.5, 0.5], [0.4, 0.4, 0.4]])
    judge = Judge(made_table(accuracy), "val_accuracy")
    assert judge.regret(np.array([1, 0]), 0, 2).tolist() == pytest.approx([0.0, 0.4])  # it looks better than row 1
    assert judge.regret(np.array([1, 0]), 1, 2).tolist() == pytest.approx([0.09, 0.09])  # unseen: it failed there
    assert judge.truth(0).value[0] == -math.inf


def test_targets_are_the_best_of_the_other_seeds():
    accuracy = RNG.random((230, 3))
    truth = Judge(made_table(accuracy), "val_accuracy").truth(1)
    order = sorted(range(230), key=lambda f: -(accuracy[f, 0] + accuracy[f, 2]))
    assert truth.targets["top 10"] == set(order[:10])
    assert truth.targets["top 1 %"] == set(order[:3])  # 2.3 of 230, rounded up
    assert set(truth.targets) == {"top 10", "top 1 %"}  # no SiLU, no Swish


def test_swish_is_silu_and_its_family_within_the_noise():
    """Four seeds; three of them judge, so that a difference of means has a variance of 2/3 of a function's."""
    rows, columns = 40, 4
    accuracy = RNG.uniform(0.2, 0.6, (rows, 1)) + RNG.normal(0, 0.01, (rows, columns))
    accuracy[30] = accuracy[31] = np.nan
    better = [*accuracy[:30], *accuracy[32:]]
    better = [row for row in better if np.mean(row) >= np.median([np.mean(r) for r in better])]
    noise = math.sqrt(np.median([np.var(row, ddof=1) for row in better]))
    silu, others = accuracy[5], [6, 7, 8, 30]
    bound = 1.96 * noise * math.sqrt(2 / 3)
    mean = silu[1:].mean()
    accuracy[6, 1:], accuracy[7, 1:], accuracy[8, 1:], accuracy[9, 1:] = (
        mean - 0.9 * bound,
        mean - 1.1 * bound,
        0.99,
        0.99,
    )
    judge = Judge(made_table(accuracy, silu=5, swish=(5, *others)), "val_accuracy")
    judge.noise = noise  # the rows changed since
    assert judge.truth(0).targets[SWISH] == {5, 6, 8}  # 9 is better still, but no Swish


def test_noise_is_the_typical_standard_deviation_of_the_better_half():
    accuracy = np.array([[0.9, 0.92], [0.8, 0.84], [0.7, 0.71], [0.1, 0.9], [np.nan, 0.99], [0.0, 0.6]])
    expected = np.median([np.std([0.9, 0.92], ddof=1), np.std([0.8, 0.84], ddof=1), np.std([0.7, 0.71], ddof=1)])
    assert Judge(made_table(accuracy), "val_accuracy").noise == pytest.approx(expected)


def test_first_hits():
    accuracy = np.linspace(0, 1, 200)[:, None] + np.zeros((200, 2))
    judge = Judge(made_table(accuracy), "val_accuracy")
    replays = [np.array(r) for r in ([0, -1, 195, 199], [199], [5, 4, 3], [], [3, 190], [198, 189])]
    found = figures(judge, replays, 4)
    inf = math.inf
    assert found.hits["top 10"].tolist() == [3, 1, inf, inf, 2, 1]
    assert found.hits["top 1 %"].tolist() == [4, 1, inf, inf, inf, 1]
    assert found.hit_rate("top 10") == pytest.approx(4 / 6)
    assert found.median_hit("top 10") == 2.5
    assert found.median_hit("top 1 %") == inf


def test_random_draws_hit_when_the_hypergeometric_distribution_says_so():
    """Drawing n without replacement, the first of k wanted comes after (n + 1) / (k + 1) draws on average."""
    n, replays = 150, 3000
    judge = Judge(made_table(RNG.random((n, 3))), "val_accuracy")
    found = figures(judge, [RNG.permutation(n) for _ in range(replays)], n)
    for target, k in (("top 10", 10), ("top 1 %", 2)):
        hits = found.hits[target]
        assert abs(hits.mean() - (n + 1) / (k + 1)) < 4 * hits.std() / math.sqrt(replays)
        missed = stats.hypergeom.pmf(0, n, k, 20)  # none of k among the first 20
        assert abs((hits > 20).mean() - missed) < 4 * math.sqrt(missed * (1 - missed) / replays)


def test_who_evaluates_everything_ends_with_the_luckiest_of_a_seed():
    accuracy = np.array([[0.9, 0.5, 0.5], [0.6, 0.8, 0.6], [0.7, 0.7, 0.8], [0.1, 0.1, 0.1]])
    judge = Judge(made_table(accuracy), "val_accuracy")
    # seed 0 picks row 0, truly 0.5, where the median is (0.5 + 0.7) / 2; seed 1 row 1, 0.6; seed 2 row 2, the best
    assert judge.regret_of_all == pytest.approx(((0.75 - 0.6) + (0.75 - 0.65) + 0.0) / 3)


def test_a_search_that_sees_the_truth_has_no_regret_left():
    accuracy = RNG.random((30, 1)) + np.zeros((30, 2))
    found = figures(Judge(made_table(accuracy), "val_accuracy"), [RNG.permutation(30) for _ in range(40)], 30)
    assert (np.diff(found.regret, axis=1) <= 0).all()
    assert (found.regret[:, -1] == 0).all()


def test_paired_test_is_wilcoxons():
    a, b = RNG.normal(0, 1, 40), RNG.normal(0.4, 1, 40)
    assert paired_test(a, b) == pytest.approx(stats.wilcoxon(a, b).pvalue)
    assert paired_test(a, b) == pytest.approx(paired_test(b, a))
    assert paired_test(a, a) == 1.0
    assert paired_test(np.zeros(3), np.zeros(3)) == 1.0


def test_paired_test_by_all_signs():
    """Six differences without ties: of the 2^6 ways to give them signs, count those at least as far from the middle."""
    difference = np.array([0.3, -0.1, 0.8, 0.5, 1.1, -0.2])
    ranks = stats.rankdata(np.abs(difference))
    total = ranks.sum()
    sums = [sum(r for r, bit in zip(ranks, f"{n:06b}", strict=True) if bit == "1") for n in range(64)]
    mine = ranks[difference > 0].sum()
    expected = np.mean([abs(s - total / 2) >= abs(mine - total / 2) for s in sums])
    assert paired_test(difference, np.zeros(6)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("p_values", "expected"),
    [
        # m p of the smallest, (m - 1) p of the next, ..., never falling, at most 1 (Holm 1979)
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.0001, 0.5, 0.6], [0.0003, 1.0, 1.0]),
        ([0.2], [0.2]),
        ([], []),
        ([0.02, 0.02, 0.02], [0.06, 0.06, 0.06]),
        ([0.9, 0.001], [0.9, 0.002]),
    ],
)
def test_holm(p_values, expected):
    assert holm(p_values) == pytest.approx(expected)


def test_holm_rejects_what_the_step_down_procedure_rejects():
    """The definition: in rising order, reject as long as p <= alpha / (number of those left)."""
    for _ in range(200):
        p, alpha = RNG.random(RNG.integers(1, 8)) ** 4, RNG.uniform(0.01, 0.2)
        rejected = set()
        for step, i in enumerate(np.argsort(p)):
            if p[i] > alpha / (len(p) - step):
                break
            rejected.add(int(i))
        assert {i for i, q in enumerate(holm(p)) if q <= alpha} == rejected


def test_a_table_in_which_every_function_failed_once_is_refused():
    with pytest.raises(TableError, match="no function has val_accuracy with every seed"):
        Judge(made_table(np.array([[0.5, np.nan], [0.6, np.nan]])), "val_accuracy")


def test_a_function_that_failed_is_no_target():
    accuracy = np.array([[0.5, 0.5], [0.6, np.nan], [0.1, 0.2]])
    assert Judge(made_table(accuracy), "val_accuracy").truth(0).targets["top 10"] == {0, 2}
