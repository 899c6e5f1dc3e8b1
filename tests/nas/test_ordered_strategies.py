"""Exhaustive search and gradient-based search, whose asks are in an order that is known beforehand."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import islice, pairwise, product

import numpy as np
import pytest

from nas.strategies import EXHAUSTED, Candidate, Objective, Problem, RelaxedCandidate, Strategy, strategies
from nas.strategies.gradient import by_weight
from search_spaces.expression import size
from search_spaces.presets import spaces
from search_spaces.space import SearchSpace
from tests.records import make_result
from trainers.trial import Relaxation, TrialState

CELLS = spaces.get("custom")(shapes=["b(u(x), x)"], unary=["tanh", "beta * x", "sin"], binary=["mul", "x1 - x2"])
RELAXED = Relaxation("b(u(x), x)", ("tanh(x)", "beta * x", "sin(x)"), ("x1 * x2", "x1 - x2"))


def make(name: str, space: SearchSpace = CELLS, objective: Objective | None = None, **options) -> Strategy:
    return strategies.get(name)(Problem(space, objective or Objective(), 0), **options)


def rest(strategy: Strategy) -> list[str]:
    """All further candidates."""
    found = []
    while (candidate := strategy.ask()) is not EXHAUSTED:
        assert isinstance(candidate, Candidate)
        found.append(str(candidate.expression))
    assert strategy.ask() is EXHAUSTED
    return found


FAILURE = make_result(None, TrialState.FAIL)


# --- exhaustive -----------------------------------------------------------------------------------------------------


def test_exhaustive_asks_for_every_spelling_in_order_of_complexity():
    space = spaces.get("custom")(
        shapes=["b(u(x), u(x))", "u(x)"], unary=["tanh", "x", "x + abs(x)"], binary=["mul", "max"], max_complexity=7
    )
    strategy, asked = make("exhaustive", space), []
    while (candidate := strategy.ask()) is not EXHAUSTED:
        asked.append(candidate.expression)
        strategy.tell(candidate, FAILURE)
    assert Counter(asked) == Counter(space.enumerate())
    assert all(size(a) <= size(b) for a, b in pairwise(asked))
    assert size(asked[0]) == 1 < size(asked[-1])


def test_exhaustive_refuses_what_it_cannot_finish():
    with pytest.raises(ValueError, match=r"at most 5,000,000 spellings, this one has 39,062,500"):
        make("exhaustive", spaces.get("grafs")())


def test_exhaustive_may_end_with_relaxations():
    strategy = make("exhaustive", relaxations=2)
    asked = [strategy.ask() for _ in range(CELLS.size + 2)]
    assert all(isinstance(candidate, Candidate) for candidate in asked[:6])
    assert asked[6:] == [RelaxedCandidate(replace(RELAXED, attempt=attempt)) for attempt in range(2)]
    assert strategy.ask() is EXHAUSTED
    with pytest.raises(ValueError, match="one fixed shape"):
        make("exhaustive", spaces.get("tree")(operators=["tanh"]), relaxations=1)


# --- gradient -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(3,), (4, 2), (3, 3, 2), (2, 1, 3, 2)])
def test_choice_vectors_come_once_each_in_falling_order_of_their_weight(sizes):
    rng = np.random.default_rng(sum(sizes))
    weights = [rng.dirichlet(np.ones(n)).tolist() for n in sizes]
    found = list(by_weight(weights))
    assert all(choices[0] == 0 for choices in found)  # the only shape
    everything = list(product(*map(range, sizes)))
    assert sorted(choices[1:] for choices in found) == everything

    def weight(choices):
        return np.prod([row[i] for row, i in zip(weights, choices, strict=True)])

    assert [choices[1:] for choices in found] == sorted(everything, key=weight, reverse=True)


def test_what_weighs_nothing_comes_last_and_equals_in_counting_order():
    found = [choices[1:] for choices in by_weight([[0.0, 0.5, 0.5], [0.25, 0.75]])]
    assert found == [(1, 1), (2, 1), (1, 0), (2, 0), (0, 1), (0, 0)]
    assert list(by_weight([[1.0, 1.0], [1.0, 1.0, 1.0]])) == [(0, *c) for c in product(range(2), range(3))]


def test_the_first_choices_of_a_large_space_are_there_at_once():
    """The best of 25^4 * 10^2, against brute force over the few best of every slot."""
    rng = np.random.default_rng(0)
    weights = [rng.dirichlet(np.ones(n)).tolist() for n in (25, 25, 25, 25, 10, 10)]
    best = [np.argsort(row)[::-1][:5] for row in weights]
    products = sorted(
        (np.prod([row[i] for row, i in zip(weights, c, strict=True)]) for c in product(*best)), reverse=True
    )
    found = list(islice(by_weight(weights), 5))
    values = [np.prod([row[i] for row, i in zip(weights, c[1:], strict=True)]) for c in found]
    np.testing.assert_allclose(values, products[:5], rtol=1e-12)


def test_gradient_waits_for_its_relaxation_and_follows_it():
    strategy = make("gradient", learning_rate=0.03, epochs=7)
    asked = strategy.ask()
    assert asked == RelaxedCandidate(replace(RELAXED, learning_rate=0.03, epochs=7))
    strategy.tell(Candidate(CELLS.decode((0, 1, 1))), make_result(0.9))  # a stranger is no relaxation
    assert [strategy.ask() for _ in range(3)] == [None] * 3
    weights = [[0.1, 0.6, 0.3], [0.35, 0.65]]
    strategy.tell(asked, replace(make_result(0.9), weights=weights))
    products = {0.39: "beta * x - x", 0.21: "beta * x * x", 0.195: "sin(x) - x", 0.105: "sin(x) * x"}
    products |= {0.065: "tanh(x) - x", 0.035: "tanh(x) * x"}
    assert rest(strategy) == [products[p] for p in sorted(products, reverse=True)]


def test_a_relaxation_that_fails_is_asked_for_again_and_then_all_are_equal():
    strategy = make("gradient", attempts=3)
    for attempt in range(3):
        asked = strategy.ask()
        assert asked.relaxation.attempt == attempt
        assert strategy.ask() is None
        # the last one is of another space
        strategy.tell(asked, FAILURE if attempt < 2 else replace(make_result(0.9), weights=[[0.5, 0.5]]))
    asked = rest(strategy)
    assert sorted(asked) == sorted(str(CELLS.decode((0, *c))) for c in product(range(3), range(2)))
    assert len({tuple(asked), *(tuple(equal_weights(seed)) for seed in range(5))}) > 3  # in random order


def equal_weights(seed: int) -> list[str]:
    strategy = strategies.get("gradient")(Problem(CELLS, seed=seed), attempts=1)
    strategy.tell(strategy.ask(), FAILURE)
    return rest(strategy)


def test_a_second_attempt_counts():
    strategy = make("gradient")
    strategy.tell(strategy.ask(), FAILURE)
    weights = [[0.0, 0.0, 1.0], [1.0, 0.0]]
    strategy.tell(strategy.ask(), replace(make_result(0.9), weights=weights))
    assert rest(strategy)[0] == "sin(x) * x"


def test_gradient_refuses_what_a_constraint_forbids():
    """A forbidden operator would take weight from the others."""
    space = spaces.get("custom")(
        shapes=["b(u(x), x)"], unary=["tanh", "beta * x", "sin"], binary=["mul", "x1 - x2"], forbid=["sin"]
    )
    with pytest.raises(ValueError, match="this one forbids sin: leave them out"):
        make("gradient", space)


def test_gradient_leaves_out_what_a_constraint_refuses():
    """The relaxation is of the whole shape."""
    space = spaces.get("custom")(
        shapes=["b(u(x), x)"], unary=["tanh", "beta * x", "sin"], binary=["mul", "x1 - x2"], max_complexity=4
    )
    strategy = make("gradient", space)
    asked = strategy.ask()
    assert asked.relaxation == RELAXED
    strategy.tell(asked, replace(make_result(0.9), weights=[[0.2, 0.5, 0.3], [0.6, 0.4]]))
    assert rest(strategy) == ["sin(x) * x", "sin(x) - x", "tanh(x) * x", "tanh(x) - x"]


@pytest.mark.parametrize(
    "space", [spaces.get("tree")(operators=["tanh"]), spaces.get("four_node")()], ids=["tree", "four_node"]
)
def test_gradient_refuses_spaces_without_one_fixed_shape(space):
    with pytest.raises(ValueError, match="choose another space or another strategy"):
        make("gradient", space)


@pytest.mark.parametrize("name", ["gradient", "reinforce", "surrogate", "evolution"])
def test_strategies_of_one_objective_refuse_a_second(name):
    with pytest.raises(ValueError, match="is a second objective, and this strategy has one"):
        make(name, CELLS, Objective("val_accuracy", "complexity"))
