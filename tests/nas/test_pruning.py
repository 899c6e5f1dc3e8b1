"""Asynchronous successive halving against its definition."""

from __future__ import annotations

import numpy as np

from nas.pruning import SuccessiveHalving


def report(epoch: int, value: float) -> dict[str, float]:
    return {"epoch": epoch, "val_accuracy": value, "train_loss_sum": value}


def test_the_first_goes_on_and_the_best_third_of_those_so_far():
    rule = SuccessiveHalving("val_accuracy", (1,), 3)
    values = [0.5, 0.4, 0.6, 0.55, 0.1, 0.58, 0.62]
    stops = [rule.should_stop(n, report(1, v)) for n, v in enumerate(values)]
    # k = max(1, n / 3) best of the first n go on: ranks 1/1, 2/2, 1/3, 2/4 (4/3 allow 2), 5/5, 2/6, 1/7
    assert stops == [False, True, False, False, True, False, False]


def test_smaller_losses_are_better():
    rule = SuccessiveHalving("train_loss_sum", (1,), 3)
    assert [rule.should_stop(n, report(1, v)) for n, v in enumerate((1.0, 2.0, 0.5))] == [False, True, False]


def test_only_rungs_stop_and_each_has_its_own_record():
    rule = SuccessiveHalving("val_accuracy", (2, 5), 2)
    assert not any(rule.should_stop(1, report(epoch, 0.0)) for epoch in (1, 3, 4, 6))
    assert not rule.should_stop(1, report(2, 0.9))
    assert not rule.should_stop(1, report(5, 0.1))


def test_about_one_in_reduction_factor_goes_on_in_the_long_run():
    rule = SuccessiveHalving("val_accuracy", (1,), 4)
    rng = np.random.default_rng(0)
    went_on = [not rule.should_stop(n, report(1, v)) for n, v in enumerate(rng.random(4000))]
    assert abs(np.mean(went_on[1000:]) - 0.25) < 0.03


def test_a_trial_that_was_started_again_counts_once():
    once, thrice = (SuccessiveHalving("val_accuracy", (1,), 2) for _ in range(2))
    for rule, times in ((once, 1), (thrice, 3)):
        for _ in range(times):
            rule.should_stop(0, report(1, 0.1))
    values = [0.9, 0.8, 0.7, 0.6]
    stops = [[rule.should_stop(n, report(1, v)) for n, v in enumerate(values, 1)] for rule in (once, thrice)]
    assert stops[0] == stops[1] == [False, False, True, True]  # 0, 1, 2, 3 better ones of 2, 3, 4, 5 in all
