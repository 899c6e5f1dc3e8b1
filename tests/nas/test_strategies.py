"""The contract for every registered strategy, and what evolution does in particular."""

from __future__ import annotations

from collections import Counter
from unittest.mock import Mock

import numpy as np
import pytest

from nas.strategies import Candidate, Objective, Problem, Strategy, strategies
from search_spaces.equivalence import EquivalenceIndex
from search_spaces.parser import parse
from search_spaces.presets import spaces
from tests.contracts.strategy import CONTRACT
from tests.records import make_result
from trainers.trial import TrialState

SPACE = spaces.get("swish2017")()


def make(name: str, seed: int = 0, **options) -> Strategy:
    return strategies.get(name)(Problem(SPACE, Objective("val_accuracy"), seed), **options)


@pytest.mark.parametrize("name", strategies.names())
@pytest.mark.parametrize("clause", CONTRACT, ids=lambda clause: clause.__name__)
def test_contract(name, clause):
    clause(lambda seed: make(name, seed))


def test_evolution_drops_the_oldest_however_good():
    evolution = make("evolution", population_size=4, tournament_size=2)
    told = [SPACE.sample(np.random.default_rng(i)) for i in range(6)]
    for age, expression in enumerate(told):
        evolution.tell(Candidate(expression), make_result(0.9 - age / 10))
    assert [expression for _, expression in evolution.population] == told[2:]


def test_a_full_tournament_always_takes_the_best_parent():
    """Every child is then a mutation of the best member."""
    evolution = make("evolution", population_size=8, tournament_size=8, crossover_probability=0.0)
    parents = [SPACE.decode((0, i, 14, 0)) for i in range(8)]
    for i, parent in enumerate(parents):
        evolution.tell(Candidate(parent), make_result(0.9 if i == 5 else 0.1 * i / 8))
    asked_for = []
    evolution.space = Mock(
        wraps=SPACE, mutate=lambda parent, rng: asked_for.append(parent) or SPACE.mutate(parent, rng)
    )
    assert len({evolution.ask().expression for _ in range(50)}) > 20
    assert set(asked_for) == {parents[5]}


def test_evolution_ignores_failures_and_keeps_pruned_ones():
    evolution = make("evolution", population_size=4, tournament_size=2)
    evolution.tell(Candidate(SPACE.decode((0, 0, 14, 0))), make_result(None, TrialState.FAIL))
    evolution.tell(Candidate(SPACE.decode((0, 0, 14, 1))), make_result(0.4, TrialState.PRUNED))
    assert [value for value, _ in evolution.population] == [0.4]


def test_evolution_finds_a_planted_optimum_faster_than_random():
    """Value = number of choices shared with x * sigmoid(x); evolution finds it in far fewer asks."""
    target = (0, 0, 20, 1)

    def asks_needed(strategy: Strategy) -> int:
        for number in range(1, 4001):
            candidate = strategy.ask()
            value = sum(a == b for a, b in zip(SPACE.encode(candidate.expression), target, strict=True))
            if value == 4:
                return number
            strategy.tell(candidate, make_result(value / 4))
        return 4001

    seeds = range(10)
    evolution = np.mean([asks_needed(make("evolution", s)) for s in seeds])
    random = np.mean([asks_needed(make("random", s)) for s in seeds])
    assert evolution < random / 3


def test_objective_of_a_loss_is_negated():
    assert Objective("val_loss").value(make_result(0.9, loss=0.3)) == -0.3
    assert Objective("val_accuracy").value(make_result(0.9)) == 0.9
    assert Objective("val_accuracy").value(make_result(0.9, TrialState.FAIL)) is None


def test_random_over_functions_draws_no_function_more_often_for_its_many_spellings():
    space = spaces.get("custom")(shapes=["b(u(x), u(x))"], unary=["x", "0", "tanh", "relu"], binary=["add", "max"])
    index, drawn = EquivalenceIndex(), {}
    relu, line = index.add(parse("max(x, 0)")), index.add(parse("x"))
    for uniform in ("spellings", "functions"):
        strategy = strategies.get("random")(Problem(space), uniform=uniform)
        drawn[uniform] = Counter(index.add(strategy.ask().expression) for _ in range(2_000))
    share = {name: counts[relu] / 2_000 for name, counts in drawn.items()}
    assert share["spellings"] > 2 * share["functions"]
    assert line in drawn["spellings"]
    assert line not in drawn["functions"]  # affine: never trained
    with pytest.raises(ValueError, match="enumerated up to"):
        strategies.get("random")(Problem(spaces.get("grafs")()))
