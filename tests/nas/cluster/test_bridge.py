"""What becomes of trials whose workers are lost, without any Ray."""

from __future__ import annotations

from collections import deque

import pytest

from nas.cluster.bridge import Bridge
from nas.strategies import EXHAUSTED
from trainers.trial import Component, Recipe, Trial, TrialResult, TrialState

DONE = TrialResult(TrialState.COMPLETE, {"epoch": 1, "val_accuracy": 0.5})


def trial(number: int) -> Trial:
    return Trial(number, "search", "x", 0, Component("m"), Component("d"), Recipe(), 1)


class Work:
    """Trials 1 to n, and what was done with them."""

    def __init__(self, n: int) -> None:
        self.left = deque(trial(number) for number in range(1, n + 1))
        self.finished: dict[int, TrialResult] = {}
        self.stop_at: set[int] = set()

    def next(self):
        return self.left.popleft() if self.left else EXHAUSTED

    def again(self, trial):
        self.left.append(trial)

    def report(self, trial, result):
        return trial.id in self.stop_at

    def finish(self, trial, result):
        assert trial.id not in self.finished
        self.finished[trial.id] = result


def bridge(work: Work, *, workers: int = 2, retries: int = 2, words=lambda trial, started: None) -> Bridge:
    return Bridge(work, workers, retries, words, lambda: None)


def test_trials_at_a_time():
    work = Work(3)
    b = bridge(work)
    assert b.idle
    assert [b.suggest(name).id for name in "ab"] == [1, 2]
    assert b.suggest("c") is None
    b.take("a", DONE)
    b.complete("a", None)
    assert b.suggest("c").id == 3
    assert not b.idle
    for name in "bc":
        b.take(name, DONE)
        b.complete(name, None)
    assert b.suggest("d") is EXHAUSTED
    assert set(work.finished) == {1, 2, 3}


def test_a_lost_worker_is_no_result_until_the_retries_are_spent():
    work = Work(2)
    b = bridge(work, workers=1, retries=2)
    b.suggest("first")
    b.take("first", DONE)
    b.complete("first", None)
    for attempt in range(3):
        assert b.suggest(f"try {attempt}").id == 2
        assert 2 not in work.finished
        b.complete(f"try {attempt}", "ActorDiedError")
    assert work.finished[2].state == TrialState.FAIL
    assert work.finished[2].reason == "its worker was lost 3 times: ActorDiedError"
    assert not b.over


def test_a_worker_that_says_why_it_ends_itself_ends_the_trial():
    work = Work(1)
    b = bridge(work, words=lambda trial, started: "hung: no step for 3 s")
    b.suggest("a")
    b.take("a", TrialResult(TrialState.RUNNING, {"epoch": 1}, [{"epoch": 1}]))
    b.complete("a", "ActorDiedError")
    assert work.finished[1].reason == "hung: no step for 3 s"
    assert work.finished[1].history == [{"epoch": 1}]  # what it had reported is kept


@pytest.mark.parametrize(("reported", "losses"), [(False, 4), (True, 20)])
def test_a_cluster_that_falls_apart_ends_the_run_and_blames_no_candidate(reported, losses):
    work = Work(100)
    b = bridge(work, workers=1, retries=50)
    if reported:
        b.suggest("first")
        b.take("first", DONE)
        b.complete("first", None)
    for number in range(losses):
        assert not b.over
        b.suggest(str(number))
        b.complete(str(number), "ActorDiedError")
    assert b.over
    assert b.broken == "ActorDiedError"
    assert b.suggest("one more") is None
    assert len(work.finished) == reported


def test_pruned_where_the_search_says_so():
    work = Work(1)
    work.stop_at = {1}
    b = bridge(work)
    b.suggest("a")
    assert b.take("a", TrialResult(TrialState.RUNNING, {"epoch": 1}, [{"epoch": 1}]))
    b.complete("a", None)
    assert work.finished[1].state == TrialState.PRUNED


@pytest.mark.parametrize("method", ["next", "report", "finish"])
def test_what_the_search_refuses_ends_the_run(method):
    """Tune would take an exception for the trial's own."""
    work = Work(3)

    def refuse(*_):
        raise OSError("the disk is full")

    b = bridge(work, workers=1)
    if method != "next":
        b.suggest("a")
    setattr(work, method, refuse)
    if method == "next":
        assert b.suggest("a") is None
    else:
        assert b.take("a", DONE if method == "finish" else TrialResult(TrialState.RUNNING, {"epoch": 1}))
        b.complete("a", None)
    setattr(work, method, lambda *_: None)
    assert isinstance(b.error, OSError)
    assert b.over
    assert b.suggest("b") is None
