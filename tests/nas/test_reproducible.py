"""A seed gives the same candidates: in the same order with one worker, for the same history with any number."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest

from analysis.store import Store
from nas.search import Search
from nas.strategies import strategies
from tests.made_studies import settings
from tests.nas.test_search import fake
from tests.processes import records
from trainers.trial import Trial

STRATEGIES = [name for name in strategies.names() if name != "exhaustive"]


def drive(search: Search, workers: int, chance: random.Random, finished: int) -> None:
    """So many trials, some at a time, which end in any order."""
    running: list[Trial] = []
    while finished:
        trial = search.next() if len(running) < workers else None
        if isinstance(trial, Trial):
            running.append(trial)
        elif running:
            ended = running.pop(chance.randrange(len(running)))
            search.finish(ended, fake(ended))
            finished -= 1
        else:
            return


def asked(store: Store) -> list[tuple[str, str, int]]:
    return [(r.trial.stage, r.trial.expression, r.trial.seed) for r in store.records()]


def created(path, *overrides: str) -> Store:
    path.mkdir()
    return Store.create(path, settings(*overrides).model_dump(mode="json"))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_one_worker_always_asks_the_same_in_the_same_order(tmp_path, strategy):
    runs = []
    for number in range(2):
        with created(tmp_path / str(number)) as store:
            search = Search(settings(f"strategy={strategy}", "search.trials=20"), store)
            drive(search, 1, random.Random(number), 1000)
            assert search.done
            runs.append(asked(store))
    assert runs[0] == runs[1]
    assert len(runs[0]) > 20
    with created(tmp_path / "other") as store:
        drive(Search(settings(f"strategy={strategy}", "search.trials=20", "seed=1"), store), 1, random.Random(0), 1000)
        assert asked(store) != runs[0]


@pytest.mark.parametrize("workers", [2, 5])
@pytest.mark.parametrize("strategy", strategies.names())
def test_the_same_history_is_asked_the_same_whatever_the_order_of_the_ends(tmp_path, strategy, workers):
    """A search that was never interrupted and one that reads its store ask the same."""
    config = settings(f"strategy={strategy}", "search.trials=40")
    with created(tmp_path / "run") as store:
        search = Search(config, store)
        drive(search, workers, random.Random(workers), 15)
        (tmp_path / "copy").mkdir()
        with store.copy(tmp_path / "copy") as copy:
            again = Search(config, copy)
            assert not again.strangers
            again._interrupted.clear()  # those are the other's running trials
            following = [search.next(), again.next()]
    assert following[0] == following[1]


@pytest.mark.slow
def test_real_workers_one_at_a_time(tmp_path):
    """Twice through Ray, in processes of their own."""
    small = ["search.trials=12", "trial.epochs=2", "pruning={rungs: [1]}", "retrain={top: 1, seeds: 1}"]
    runs = []
    for number in range(2):
        run = tmp_path / str(number)
        command = [sys.executable, "-m", "nas", "search", "digits", *small, "model.width=4", "workers=1"]
        done = subprocess.run([*command, "--run", str(run)], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        runs.append([(r.trial.expression, r.trial.seed, r.result.state, r.result.metrics) for r in records(run)])
    assert runs[0] == runs[1]
