"""The contract for every registered strategy, and what evolution does in particular."""

from __future__ import annotations

from collections import Counter
from unittest.mock import Mock

import numpy as np
import pytest

from nas.proposer import Proposer
from nas.strategies import EXHAUSTED, Candidate, Objective, Problem, RelaxedCandidate, Strategy, strategies
from search_spaces.equivalence import EquivalenceIndex
from search_spaces.parser import parse
from search_spaces.presets import spaces
from search_spaces.space import ConstrainedSpace, SearchSpace
from tests.contracts.strategy import CONTRACT, outcome, relaxed_outcome
from tests.expressions import evaluate_text
from tests.records import make_result
from trainers.trial import TrialState

SPACE = spaces.get("swish2017")()
TREES = spaces.get("tree")(
    operators=["add", "mul", "tanh", "sigmoid", "sin"], max_depth=3, max_nodes=5, max_params=2, constants=[1]
)
FEW = spaces.get("custom")(
    shapes=["b(u(x), u(x))"], unary=["x", "tanh", "sigmoid", "sin"], binary=["add", "mul", "max"]
)


def make(name: str, seed: int = 0, space: SearchSpace = SPACE, **options) -> Strategy:
    return strategies.get(name)(Problem(space, Objective("val_accuracy"), seed), **options)


@pytest.mark.parametrize("name", strategies.names())
@pytest.mark.parametrize("clause", CONTRACT, ids=lambda clause: clause.__name__)
def test_contract(name, clause):
    clause(lambda seed: make(name, seed))


@pytest.mark.parametrize("name", [name for name in strategies.names() if name != "gradient"])
@pytest.mark.parametrize("clause", CONTRACT, ids=lambda clause: clause.__name__)
def test_contract_on_trees(name, clause):
    """Where the next choice depends on those before it, and a constraint refuses some choice vectors."""
    assert isinstance(TREES, ConstrainedSpace)
    clause(lambda seed: make(name, seed, TREES))


def trainable_functions(space: SearchSpace) -> set[bytes]:
    """The different functions, by their values on a few points, without straight lines."""
    x = np.linspace(-3, 3, 13)
    found = set()
    for member in space.enumerate():
        y = evaluate_text(str(member), x)
        if np.abs(np.diff(y, 2)).max() > 1e-9:
            found.add((np.round(y, 9) + 0.0).tobytes())
    return found


@pytest.mark.parametrize("delay", [0, 4])
@pytest.mark.parametrize("name", strategies.names())
def test_every_trainable_function_of_a_small_space_is_proposed_exactly_once(name, delay, monkeypatch):
    """Whatever the strategy favours; results come at once, or four proposals later."""
    strategy = make(name, 1, FEW)
    if strategy.patience == Strategy.patience:  # less of it, and of the random draws that then help out, is faster
        monkeypatch.setattr(type(strategy), "patience", 15)
    monkeypatch.setattr("nas.proposer._DRAWS", 20)
    proposer = Proposer(strategy)
    proposed, running = [], []
    while (proposal := proposer.propose()) is not EXHAUSTED:
        if proposal is None:
            assert running, "it waits for a result, but nothing is running"
        else:
            running.append(proposal)
        if proposal is None or len(running) > delay:
            done = running.pop(0)
            if isinstance(done.candidate, RelaxedCandidate):
                proposer.settle(done.key, relaxed_outcome(done.candidate))
            else:
                proposed.append(done.candidate.expression)
                proposer.settle(done.key, outcome(done.candidate, len(proposed)))
    proposed += [done.candidate.expression for done in running]
    x = np.linspace(-3, 3, 13)
    values = [(np.round(evaluate_text(str(e), x), 9) + 0.0).tobytes() for e in proposed]
    assert len(values) == len(set(values)) == 28
    assert set(values) == trainable_functions(FEW)
    assert proposer.propose() is EXHAUSTED


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
    """Value = number of choices shared with x * sigmoid(x). Uniform draws find one spelling of n after n asks, on
    average; evolution in far fewer."""
    target = (0, 0, 20, 1)

    def asks_needed(strategy: Strategy) -> int:
        for number in range(1, 4001):
            candidate = strategy.ask()
            value = sum(a == b for a, b in zip(SPACE.encode(candidate.expression), target, strict=True))
            if value == 4:
                return number
            strategy.tell(candidate, make_result(value / 4))
        return 4001

    assert np.mean([asks_needed(make("evolution", seed)) for seed in range(10)]) < SPACE.size / 6


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
