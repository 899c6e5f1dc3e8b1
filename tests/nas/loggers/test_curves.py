"""What is drawn of trials of every stage and state."""

from __future__ import annotations

from dataclasses import replace

from analysis.store import Record
from nas.loggers.curves import Curves
from tests.records import make_result, make_trial
from trainers.trial import TrialState


def record(stage: str, result, **changes) -> Record:
    return Record(make_trial(1, stage=stage, **changes), "k", "tanh(x)", None, result)


def test_stages_have_curves_of_their_own_and_only_the_search_has_a_best():
    curves = Curves("val_accuracy")
    tested = replace(make_result(None), metrics={"test_accuracy": 0.7, "test_loss": 1.0})
    points = [
        curves.point(record("relax", make_result(0.99))),
        curves.point(record("search", make_result(0.5))),
        curves.point(record("search", make_result(0.9, TrialState.PRUNED))),
        curves.point(record("search", make_result(None, TrialState.FAIL))),
        curves.point(record("search", make_result(0.4))),
        curves.point(record("search", make_result(float("nan")))),
        curves.point(record("retrain", make_result(0.6))),
        curves.point(record("confirm", tested, score_on="test")),
        curves.point(record("confirm", tested, score_on="test", setting="elsewhere")),
    ]
    drawn = [{k: v for k, v in p.values.items() if "/" in k} for p in points]
    best = {"val_accuracy/best": 0.5}
    assert drawn == [
        {"val_accuracy/relax": 0.99},
        {"val_accuracy/search": 0.5, **best},
        {"val_accuracy/pruned": 0.9, **best},
        best,
        {"val_accuracy/search": 0.4, **best},
        best,
        {"val_accuracy/retrain": 0.6, **best},
        {"test_accuracy/confirm": 0.7, **best},
        {"test_accuracy/confirm/elsewhere": 0.7, **best},
    ]
    assert [p.is_best for p in points] == [False, True, *[False] * 7]
    assert [p.step for p in points] == list(range(1, 10))
    assert points[-1].values["failures"] == 1


def test_smaller_losses_are_better():
    curves = Curves("val_loss")
    points = [curves.point(record("search", make_result(0.5, loss=loss))) for loss in (2.0, 1.0, 3.0)]
    assert [p.values["val_loss/best"] for p in points] == [2.0, 1.0, 1.0]
    assert [p.is_best for p in points] == [True, True, False]


def test_a_loss_that_is_no_number_is_never_the_best():
    curves = Curves("val_loss")
    points = [curves.point(record("search", make_result(0.5, loss=loss))) for loss in (float("nan"), 1.0)]
    assert [p.values.get("val_loss/best") for p in points] == [None, 1.0]
    assert [p.is_best for p in points] == [False, True]
