"""The surrogate's predictions against numpy and scikit-learn's definitions, and what it finds with them."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from statistics import NormalDist

import numpy as np
import pytest

from nas.prediction import normal_scores, predict
from nas.strategies import EXHAUSTED, Candidate, Problem, Strategy, strategies
from nas.strategies.surrogate import WHOLE
from search_spaces.census import FunctionSampler
from search_spaces.equivalence import rejection
from search_spaces.expression import Expression, params, size
from search_spaces.features import features
from search_spaces.presets import spaces
from search_spaces.space import SearchSpace
from tests.expressions import evaluate_text
from tests.records import make_result
from trainers.trial import TrialState

UNARY = ["x", "-x", "tanh", "sin", "sigmoid", "relu", "x ** 2", "exp(-x ** 2)", "erf", "atan", "cos", "0.5", "2 * x"]
CELLS = spaces.get("custom")(shapes=["b(u(x), u(x))"], unary=UNARY, binary=["add", "mul", "max", "x1 - x2"])
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(60)


def make(space: SearchSpace = CELLS, seed: int = 0, **options) -> Strategy:
    return strategies.get("surrogate")(Problem(space, seed=seed), **options)


@cache
def quality(expression: Expression) -> float:
    """Planted: best where E[f^2] is 0.3, by quadrature; between 0 and 1."""
    y = evaluate_text(str(expression), NODES, **dict.fromkeys(params(expression), 1.0))
    y = np.nan_to_num(y, nan=0.0).clip(-1e3, 1e3)
    moment = (WEIGHTS * y**2).sum() / np.sqrt(2 * np.pi)
    return float(np.exp(-((np.log(moment + 1e-9) - np.log(0.3)) ** 2)))


def asks_needed(strategy: Strategy, good: float, limit: int = 250) -> int:
    """Until a function is at least so good."""
    for number in range(1, limit + 1):
        candidate = strategy.ask()
        value = quality(candidate.expression)
        if value >= good:
            return number
        strategy.tell(candidate, make_result(value))
    return limit


@pytest.mark.parametrize("model", ["forest", "knn", "gp"])
def test_a_function_of_the_second_moment_is_found_faster_than_by_chance(model):
    """One of the best three of some 280 functions: a random order needs 70 on average."""
    functions = FunctionSampler(CELLS, trainable=True).functions
    good = sorted(map(quality, functions))[-3]
    chance = (len(functions) + 1) / 4
    assert chance > 60
    seeds = range(2 if model == "gp" else 8)
    options = {"model": model, "start": "random", "refit_every": 4}
    needed = [asks_needed(make(seed=seed, **options), good) for seed in seeds]
    assert np.mean(needed) < chance / 2


def told(strategy: Strategy, functions: list[Expression]) -> Strategy:
    for expression in functions:
        strategy.tell(Candidate(expression), make_result(quality(expression)))
    return strategy


def nearest_neighbours(known, values, new) -> tuple[np.ndarray, np.ndarray]:
    """Five of them, weighted by 1 / distance, written out; uncertain where they disagree or are far away."""
    center, scale = known.mean(0), known.std(0) + 1e-9
    means, stds = [], []
    for row in new:
        distance = np.sqrt((((known - row) / scale) ** 2).sum(1))
        near = np.argsort(distance)[:5]
        weight = 1 / (distance[near] + 1e-6)
        mean = np.average(values[near], weights=weight)
        spread = np.average((values[near] - mean) ** 2, weights=weight)
        far = distance[near].mean() ** 2 / len(center)
        means.append(mean)
        stds.append(np.sqrt(spread + values.var() * far))
    return np.array(means), np.array(stds)


def test_the_ask_is_the_largest_upper_confidence_bound():
    """With kappa 0 the best prediction; with a large one what is known least about."""
    functions = FunctionSampler(CELLS, trainable=True).functions
    seen, new = functions[::7], [e for i, e in enumerate(functions) if i % 7]
    scores = normal_scores([quality(e) for e in seen])
    mean, std = nearest_neighbours(features(seen), scores, features(new))
    asked = {}
    for kappa in (0.0, 1.0, 1e6):
        bounds = mean + kappa * std
        asked[kappa] = told(make(model="knn", kappa=kappa), seen).ask().expression
        assert bounds[new.index(asked[kappa])] == pytest.approx(bounds.max(), rel=1e-6)
    assert asked[0.0] != asked[1e6]


@pytest.mark.parametrize("model", ["forest", "knn", "gp"])
def test_predictions(model):
    """Close to a smooth function, less sure far away, and the same at every call."""
    rng = np.random.default_rng(0)
    x, new = rng.normal(size=(70, 2)), rng.normal(size=(60, 2)) * 0.7
    truth = lambda rows: np.sin(rows[:, 0]) + 0.5 * rows[:, 1]  # noqa: E731
    mean, std = predict(model, x, truth(x), new, 0)
    assert np.corrcoef(mean, truth(new))[0, 1] > 0.9
    assert (std >= 0).all()
    again = predict(model, x, truth(x), new, 0)
    np.testing.assert_array_equal(np.array(again), np.array([mean, std]))
    np.testing.assert_allclose(predict(model, x, truth(x) + 7, new, 0)[0], mean + 7, atol=0.05)
    if model != "forest":
        assert predict(model, x, truth(x), new + 30, 0)[1].min() > std.max()


def test_normal_scores():
    """Quantiles of N(0,1) at (rank - 1/2) / n; equals share a rank, failures the lowest."""
    quantile = NormalDist().inv_cdf
    values = [0.7, None, -3.0, 0.9, None, 0.7]
    ranks = [4.5, 1.5, 3, 6, 1.5, 4.5]
    np.testing.assert_allclose(normal_scores(values), [quantile((rank - 0.5) / 6) for rank in ranks], atol=1e-12)
    np.testing.assert_allclose(normal_scores([None, None]), 0, atol=1e-12)
    np.testing.assert_allclose(normal_scores([1e300, 1.0]), normal_scores([2.0, 1.0]))


@pytest.mark.parametrize("model", ["forest", "knn", "gp"])
def test_a_small_space_is_exhausted(model):
    """Every function once, whatever fails; 0.5 + 0.5 and x - x are never asked for."""
    space = spaces.get("custom")(shapes=["b(u(x), u(x))"], unary=["x", "tanh", "0.5"], binary=["add", "x1 - x2"])
    strategy, asked = make(space, model=model, startup=2, refit_every=1), []
    while (candidate := strategy.ask()) is not EXHAUSTED:
        asked.append(candidate.expression)
        strategy.tell(candidate, make_result(None, TrialState.FAIL) if len(asked) % 2 else make_result(0.5))
    x = np.linspace(-3, 3, 13)
    values = {(np.round(evaluate_text(str(e), x), 9) + 0.0).tobytes() for e in space.enumerate()}
    curved = {v for v in values if np.abs(np.diff(np.frombuffer(v), 2)).max() > 1e-9}
    assert len(asked) == len(curved)
    assert {(np.round(evaluate_text(str(e), x), 9) + 0.0).tobytes() for e in asked} == curved
    assert strategy.ask() is EXHAUSTED


def test_what_is_pending_is_not_asked_for_again():
    """Though the model is fitted anew while results are outstanding."""
    strategy, asked = make(model="knn", startup=2, refit_every=1), []
    for number in range(40):
        asked.append(strategy.ask())
        if number % 2:
            strategy.tell(asked[number // 2], make_result(quality(asked[number // 2].expression)))
    assert len(set(asked)) == 40


def fits(strategy: Strategy, results: int, monkeypatch) -> list[int]:
    """After how many results a model was fitted."""
    found: list[int] = []
    monkeypatch.setattr("nas.strategies.surrogate.predict", lambda *a: found.append(len(a[2])) or predict(*a))
    for _ in range(results):
        candidate = strategy.ask()
        strategy.tell(candidate, make_result(quality(candidate.expression)))
    return found


def test_every_result_is_learned_from_and_of_many_every_twentieth_part(monkeypatch):
    found = fits(make(model="knn"), 130, monkeypatch)
    assert found[:31] == list(range(10, 41))
    assert all(later - now == max(1, now // 20) for now, later in pairwise(found))
    assert fits(make(model="knn", startup=7, refit_every=9), 40, monkeypatch) == [9, 18, 27, 36]


@pytest.mark.parametrize("name", ["four_node", "grafs", "tree"])
def test_what_a_large_space_begins_with_can_be_trained(name):
    """So that the first fit has something to go by; a pool is not looked at before it is asked from."""
    strategy, asked = make(spaces.get(name)(), pool_size=100), []
    for _ in range(25):
        asked.append(strategy.ask())
        strategy.tell(asked[-1], make_result(quality(asked[-1].expression)))
    assert [rejection(candidate.expression) for candidate in asked] == [None] * 25
    sizes = [size(candidate.expression) for candidate in asked[:10]]
    assert sizes == sorted(sizes)


def test_simple_functions_come_first_if_so_wanted():
    simple, chance = make(startup=100), make(startup=100, start="random")
    first, second = ([size(strategy.ask().expression) for _ in range(40)] for strategy in (simple, chance))
    assert first == sorted(first)
    assert second != sorted(second)


@pytest.mark.parametrize("model", ["forest", "knn"])
def test_spaces_that_are_too_large_to_be_looked_at_as_a_whole(model):
    """Members alone, none twice, and soon better ones than chance draws."""
    space = spaces.get("grafs")()
    assert space.size > 100 * WHOLE
    options = {"kappa": 0.0, "pool_size": 100, "startup": 10, "refit_every": 5, "start": "random"}
    strategy, asked = make(space, model=model, **options), []
    for _ in range(60):
        candidate = strategy.ask()
        assert space.contains(candidate.expression)
        asked.append(candidate.expression)
        strategy.tell(candidate, make_result(quality(candidate.expression)))
    assert len(asked) == len(set(asked))
    rng = np.random.default_rng(1)
    chance = np.mean([quality(space.sample(rng)) for _ in range(200)])
    assert np.mean([quality(expression) for expression in asked[-30:]]) > (1 + chance) / 2


def test_a_spectrum_is_of_use():
    """Where quality depends on nothing but a number that the spectrum tells."""
    functions = FunctionSampler(CELLS, trainable=True).functions
    hidden = dict(zip(functions, np.random.default_rng(0).normal(size=len(functions)), strict=True))
    best = max(functions, key=hidden.__getitem__)

    def needed(wanted: bool) -> int:
        strategy = strategies.get("surrogate")(problem, spectrum=wanted, start="random", kappa=0.0, refit_every=10)
        for number in range(1, len(functions) + 1):
            candidate = strategy.ask()
            if candidate.expression == best:
                return number
            strategy.tell(candidate, make_result(0.5 + hidden[candidate.expression] / 20))
        raise AssertionError("it asks for every function")

    problem = Problem(CELLS, spectrum=lambda expression: np.full(32, hidden[expression]))
    assert needed(True) < needed(False) / 2
