"""What the loggers that draw curves draw: one step a finished trial."""

from __future__ import annotations

import math
from dataclasses import dataclass

from analysis.store import Record
from trainers.trial import METRICS, TrialState

FINISHED = "finished"
"""The number of finished trials. A service that is asked for its last value says where to go on."""


@dataclass(frozen=True)
class Point:
    """A step of all curves.

    Attributes:
        step: the number of finished trials, this one included.
        values: by the curve's name. The objective is drawn for every stage, apart for trials that were pruned, which
            trained for a shorter time, and for confirmations elsewhere; on a test set it has its name there.
        record: the trial.
        is_best: whether it is the best complete one of the search stage so far.
    """

    step: int
    values: dict[str, float]
    record: Record
    is_best: bool


class Curves:
    """Makes points of records."""

    def __init__(self, metric: str) -> None:
        self.metric = metric
        self._of_test = metric.replace("val_", "test_")
        self._sign = 1 if METRICS[metric] == "max" else -1
        self._best: float | None = None
        self._failures = 0
        self._step = 0

    def point(self, record: Record) -> Point:
        """The next one."""
        trial, result = record.trial, record.result
        assert result is not None
        self._step += 1
        self._failures += result.state == TrialState.FAIL
        values = {FINISHED: self._step, "failures": self._failures, "seconds": result.seconds}
        metric = self.metric if trial.score_on == "val" else self._of_test
        value, is_best = result.metrics.get(metric, math.nan), False
        if math.isfinite(value) and result.state == TrialState.PRUNED:
            values[f"{metric}/pruned"] = value
        elif math.isfinite(value) and result.state == TrialState.COMPLETE:
            where = trial.stage if trial.setting is None else f"{trial.stage}/{trial.setting}"
            values[f"{metric}/{where}"] = value
            is_best = trial.stage == "search" and self._beats_best(value)
            self._best = value if is_best else self._best
        if self._best is not None:
            values[f"{self.metric}/best"] = self._best
        return Point(self._step, {name: float(each) for name, each in values.items()}, record, is_best)

    def _beats_best(self, value: float) -> bool:
        return self._best is None or self._sign * value > self._sign * self._best
