"""Which functions go on to be retrained: the best, those that no other one beats in value and cost, or all.

Trials are not trained here, but for the last test: their outcome is computed from the function and the seed.
"""

from __future__ import annotations

import contextlib
import sys

import numpy as np
import pytest
import yaml

from analysis.store import Store
from nas.cli import main
from nas.finalists import Finalist, ranked
from nas.search import RETRAIN, SEARCH
from nas.strategies import Objective
from search_spaces.expression import size
from search_spaces.parser import parse
from tests.made_studies import of_stage, study, trials
from tests.made_tables import TINY
from tests.nas.test_search import fake
from tests.records import make_result
from trainers.trial import TrialResult


def test_finalists_are_the_pareto_front_and_then_the_best():
    rng = np.random.default_rng(3)
    objective = Objective("val_accuracy", "complexity")
    texts = ["x**2", "tanh(x)", "sin(x) + x", "tanh(x) * sin(x)", "tanh(sin(x) * x)", "max(x, tanh(x) * sin(x) + x)"]

    def better(j: int, i: int) -> bool:
        loss = [found[k].result.metrics["val_loss"] for k in (j, i)]
        return loss[0] < loss[1]

    for _ in range(200):
        found = [
            Finalist(parse(texts[rng.integers(6)]), make_result(float(a), loss=float(rng.random())), objective)
            for a in rng.choice(8, 12) / 8
        ]
        score = [(f.result.metrics["val_accuracy"], -size(f.expression)) for f in found]
        everyone = range(len(found))
        front = {  # no other one is as good in both and better in one; of equal ones the first stands for all
            i
            for i in everyone
            if not any(
                (a >= score[i][0] and b >= score[i][1] and (a, b) != score[i]) or ((a, b) == score[i] and better(j, i))
                for j, (a, b) in enumerate(score)
                if j != i
            )
        }
        order = [next(i for i in everyone if found[i] is f) for f in ranked(found)]
        assert sorted(order) == list(everyone)
        assert set(order[: len(front)]) == front
        for part in (order[: len(front)], order[len(front) :]):
            assert [score[i] for i in part] == sorted((score[i] for i in part), reverse=True)


def test_without_a_cost_the_better_one_comes_first_and_ties_go_to_the_loss():
    found = [Finalist(parse("x"), make_result(a, loss=b), Objective()) for a, b in ((0.5, 1), (0.9, 2), (0.9, 1.5))]
    assert ranked(found) == [found[2], found[1], found[0]]
    assert ranked([]) == []


@pytest.mark.parametrize("strategy", ["tpe", "nsga2", "random"])
@pytest.mark.parametrize("cost", ["complexity", "time"])
def test_a_search_with_a_cost_retrains_its_front(tmp_path, monkeypatch, strategy, cost):
    """Time is as the trials measured it, which are asked for it in the search stage."""

    def timed(trial):
        assert trial.measure_cost == (cost == "time")
        return TrialResult(**{**vars(fake(trial)), "cost": 1.0 + len(trial.expression) % 5 + trial.id / 100})

    monkeypatch.setattr("tests.nas.test_search.fake", timed)
    rows = study(tmp_path, f"strategy.name={strategy}", f"search.cost={cost}", "search.trials=20", "retrain.top=3")
    searched = [(text, result) for stage, text, _, result in rows if stage == SEARCH and result.state == "COMPLETE"]
    costs = {text: size(parse(text)) if cost == "complexity" else result.cost for text, result in searched}
    value = {text: result.metrics["val_accuracy"] for text, result in searched}
    front = [t for t in value if not any(value[o] > value[t] and costs[o] <= costs[t] for o in value)]
    expected = sorted(front, key=lambda t: -value[t])[:3]
    retrained = of_stage(rows, RETRAIN)
    assert retrained[: len(expected)] == expected


def test_all_means_failures_too(tmp_path):
    rows = study(tmp_path, "retrain={top: all, seeds: 2}", "search.trials=20")
    searched = of_stage(rows, SEARCH)
    assert "FAIL" in {str(r[3].state) for r in rows}
    assert sorted(of_stage(rows, RETRAIN)) == sorted(2 * searched)
    assert {(text, seed) for stage, text, seed, _ in rows if stage == RETRAIN} == {
        (t, s) for t in searched for s in (1, 2)
    }


def test_costs_are_measured_where_they_are_wanted(tmp_path, monkeypatch, capsys):
    """Really trained: seven operators take longer than two."""
    monkeypatch.chdir(tmp_path)
    chosen = {**TINY, "search": {"trials": 2, "cost": "time"}, "strategy": {"name": "tpe"}, "retrain": {"top": 0}}
    chosen["warm_start"] = {"functions": ["max(x, 0) * 2", "tanh(sin(x)) * cos(tanh(x)) + sin(sin(x))"]}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(chosen))
    monkeypatch.setattr(sys, "argv", ["nas", "search", "tiny.yaml", "--run", "run"])
    with contextlib.suppress(SystemExit):  # after two steps there may be nothing that works
        main()
    with Store.open(tmp_path / "run") as store:
        cheap, dear = (r[3].cost for r in trials(store))
    assert 0.3 < cheap < dear
