"""What is said while a search runs: how long the rest takes, once that shows."""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO

import pytest
from rich.console import Console

import nas.progress
from trainers.trial import TrialState


class View(nas.progress._View):
    """Of trials that are counted by hand."""

    ended = 0
    total = 200

    def _finished(self) -> int:
        return self.ended

    def _left(self, rate: float) -> float:
        return self.total - self.ended

    def _title(self) -> str:
        return "title"

    def _line(self) -> str:
        return self._speed()

    def _rows(self) -> Iterator[tuple[str, str]]:
        yield "speed", self._speed()


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(nas.progress.time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(
    ("total", "before", "ended", "said"),
    [
        (200, 0, 0, "starting"),
        (200, 0, 1, "3 candidates/min"),  # it waited for workers: the others do not take 66 minutes
        (200, 0, 9, "27 candidates/min"),
        (200, 0, 10, "30 candidates/min, 6:20 left"),  # 190 trials of 2 s
        (200, 150, 159, "27 candidates/min"),  # a study that goes on: of its first process nothing is known
        (200, 150, 160, "30 candidates/min, 1:20 left"),
        (20, 0, 3, "9 candidates/min"),
        (20, 0, 4, "12 candidates/min, 1:20 left"),  # a fifth
        (3, 0, 1, "3 candidates/min, 0:40 left"),
    ],
)
def test_what_is_left_is_estimated_when_enough_have_ended(clock, total, before, ended, said):
    View.total, View.ended = total, before
    view = View(Console(), "runs/first")
    clock[0] += 20
    view.ended = ended
    assert view._line() == said


def test_what_ran_when_all_was_interrupted_runs_no_more():
    view = View(Console(file=StringIO()), "run")
    count = {TrialState.COMPLETE: 3, TrialState.RUNNING: 2}
    assert view._in_words(count) == "3 complete, 0 pruned, 0 failed, 2 running"
    with view:
        pass
    assert view._in_words(count) == "3 complete, 0 pruned, 0 failed, 2 interrupted"
    assert view._in_words({TrialState.PRUNED: 1}) == "0 complete, 1 pruned, 0 failed"
