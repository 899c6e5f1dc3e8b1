"""Studies with chosen results, to draw and to count in."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from analysis.store import Record, Store
from analysis.study import Study
from tests.records import make_result, make_trial
from trainers.trial import TrialState

Row = tuple[str, str, int, float | None, str]
"""Formula, stage, seed, accuracy, state."""


def made_study(path: Path, rows: list[Row], *, named: dict[str, str] | None = None, **config: Any) -> Study:
    """A study of these trials in this order; equal formulas are one function."""
    path.mkdir(exist_ok=True)
    named = {"max(x, 0)": "ReLU", "x * sigmoid(x)": "SiLU"} if named is None else named
    with Store.create(path, {"search": {"objective": "val_accuracy"}, **config}) as store:
        for number, (formula, stage, seed, accuracy, state) in enumerate(rows, 1):
            store.launch(Record(make_trial(number, formula, stage, seed), formula, formula, named.get(formula), None))
            if state == "RUNNING":
                continue
            result = make_result(accuracy, TrialState(state))
            if stage == "confirm" and accuracy is not None:
                result = dataclasses.replace(result, metrics={"test_accuracy": accuracy, "test_loss": 1 - accuracy})
            store.finish(number, result)
    return Study(path)


def searched(values: dict[str, float | None], state: str = "COMPLETE") -> list[Row]:
    """One training each; failed without a value."""
    return [(f, "search", 0, value, state if value is not None else "FAIL") for f, value in values.items()]


def repeated(formula: str, stage: str, values: list[float]) -> list[Row]:
    """A training a value, with seeds 1, 2 and so on."""
    return [(formula, stage, seed, value, "COMPLETE") for seed, value in enumerate(values, 1)]
