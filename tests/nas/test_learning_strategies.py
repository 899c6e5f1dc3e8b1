"""Policy gradients and Optuna's samplers: their arithmetic, what they are told, and that they learn."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import optuna
import pytest
import torch
from scipy import stats

from nas.strategies import Candidate, Objective, Problem, Strategy, strategies
from nas.strategies.reinforce import Controller
from search_spaces.expression import size
from search_spaces.parser import parse
from search_spaces.presets import spaces
from search_spaces.space import Choices, SearchSpace
from tests.contracts.space import vectors
from tests.records import make_result
from trainers.trial import TrialState

UNARY = ["x", "-x", "tanh", "sin", "sigmoid", "relu", "x ** 2", "exp(-x ** 2)", "erf", "atan"]
CELLS = spaces.get("custom")(shapes=["b(u(x), u(x))"], unary=UNARY, binary=["add", "mul", "max", "x1 - x2"])
SHAPES = spaces.get("custom")(shapes=["u(x)", "b(u(x), x)"], unary=["tanh", "sin", "x"], binary=["mul", "add"])
TREES = spaces.get("tree")(operators=["add", "mul", "tanh"], max_depth=3, max_nodes=4, max_params=1)


def make(
    name: str, space: SearchSpace = CELLS, seed: int = 0, objective: Objective | None = None, **options
) -> Strategy:
    return strategies.get(name)(Problem(space, objective or Objective("val_accuracy"), seed), **options)


def asks_needed(strategy: Strategy, target: Choices, limit: int = 700) -> int:
    """Until the target is proposed, where a result is the share of choices in common with it."""
    for number in range(1, limit + 1):
        candidate = strategy.ask()
        value = np.mean([a == b for a, b in zip(CELLS.encode(candidate.expression), target, strict=True)])
        if value == 1:
            return number
        strategy.tell(candidate, make_result(float(value)))
    return limit


@pytest.mark.parametrize("name", ["reinforce", "tpe", "nsga2"])
def test_a_planted_optimum_is_found_faster_than_by_chance(name):
    """One of 400 spellings: draws with replacement need 400 on average, of up to 700 about 330."""
    targets = [(0, 4, 1, 1), (0, 2, 7, 3), (0, 9, 5, 0), (0, 0, 3, 2)]
    needed = [asks_needed(make(name, seed=i), target) for i, target in enumerate(targets)]
    assert np.mean(needed) < 330 / 2


# --- reinforce ------------------------------------------------------------------------------------------------------


def controller(space: SearchSpace, spread: float = 0.5) -> Controller:
    """In float64 with weights that prefer some tokens to others."""
    torch.manual_seed(1)
    built = Controller(space, 8).double()
    torch.nn.init.normal_(built.logits.weight, std=spread)
    return built


@pytest.mark.parametrize("space", [SHAPES, TREES], ids=["shapes", "trees"])
def test_probabilities_of_all_choice_vectors_add_up_to_1(space):
    everything = list(vectors(space))
    log_p, _ = controller(space).judge(everything)
    assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-6)
    assert log_p.exp().std() > 1e-3


@pytest.mark.parametrize("space", [SHAPES, TREES], ids=["shapes", "trees"])
def test_vectors_are_written_as_often_as_they_are_judged_likely(space):
    """Chi-square of 1,500 draws against the probabilities, at 1 in 1,000; rare ones are counted together."""
    built, generator = controller(space), torch.Generator().manual_seed(0)
    drawn = [built.write(generator) for _ in range(1_500)]
    everything = list(vectors(space))
    log_p = dict(zip(everything, built.judge(everything)[0].tolist(), strict=True))
    assert max(abs(log_p[choices] - said) for choices, said in drawn) < 1e-6
    counts = Counter(choices for choices, _ in drawn)
    common = [choices for choices in everything if math.exp(log_p[choices]) * 1_500 >= 5]
    observed = [counts[choices] for choices in common]
    expected = [math.exp(log_p[choices]) * 1_500 for choices in common]
    observed.append(1_500 - sum(observed))
    expected.append(1_500 - sum(expected))
    assert stats.chisquare(observed, expected).pvalue > 1e-3


def test_the_entropy_is_that_of_the_next_choice():
    """p(next | prefix) from the probabilities of all vectors; the mean over positions and over the batch."""
    built = controller(SHAPES)
    everything = list(vectors(SHAPES))
    p = dict(zip(everything, built.judge(everything)[0].exp().tolist(), strict=True))
    batch = [everything[0], everything[-1], everything[2]]
    wanted = []
    for choices in batch:
        for i in range(len(choices)):
            same = {c: v for c, v in p.items() if c[:i] == choices[:i]}
            following = Counter()
            for c, v in same.items():
                following[c[i]] += v / sum(same.values())
            wanted.append(-sum(q * math.log(q) for q in following.values()))
    assert built.judge(batch)[1].item() == pytest.approx(np.mean(wanted), rel=1e-5)


class Recorder:
    """An optimiser that keeps the gradient and changes nothing."""

    def __init__(self, parameters) -> None:
        self.parameters, self.gradients = list(parameters), []

    def zero_grad(self) -> None:
        for p in self.parameters:
            p.grad = None

    def step(self) -> None:
        flat = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in self.parameters]
        self.gradients.append(flat)


def test_a_step_climbs_the_clipped_objective():
    """Equation 7 of arXiv 1707.06347 in numpy, differentiated numerically in a random direction.

    Old probabilities are such that ratios are 1, within, just and far beyond the clip, with advantages of either sign.
    """
    strategy = make("reinforce", SHAPES, entropy_bonus=0.3, batch_size=100)
    strategy.controller = built = controller(SHAPES)
    strategy.optimizer = recorder = Recorder(built.parameters())
    batch = list(vectors(SHAPES))[:6]
    ratios = np.array([1.0, 1.1, 1.25, 1.5, 0.5, 0.75])
    rewards = [0.5, 0.9, 0.95, 0.1, 0.8, 0.2]
    with torch.no_grad():
        old = built.judge(batch)[0].numpy() - np.log(ratios)
    strategy._told = [(c, float(o), r) for c, o, r in zip(batch, old, rewards, strict=True)]
    baseline, spread, advantages = rewards[0], 0.0, []
    for reward in rewards:  # moving averages with decay 0.9, the reward itself coming after
        distance = reward - baseline
        baseline = 0.9 * baseline + 0.1 * reward
        spread = 0.9 * spread + 0.1 * abs(distance)
        advantages.append(np.clip(distance / max(spread, 1e-12), -3, 3))
    advantages = np.array(advantages)
    assert set(np.sign(advantages[2:])) == {-1, 1}

    def objective() -> float:
        with torch.no_grad():
            log_p, entropy = built.judge(batch)
        ratio = np.exp(log_p.numpy() - np.float32(old))
        return np.minimum(ratio * advantages, np.clip(ratio, 0.8, 1.2) * advantages).mean() + 0.3 * entropy.item()

    strategy._learn()
    rng = np.random.default_rng(0)
    direction = [torch.from_numpy(rng.normal(size=tuple(p.shape))) for p in built.parameters()]
    found = sum((g * d).sum().item() for g, d in zip(recorder.gradients[0], direction, strict=True))
    values, step = [], 1e-5
    for sign in (1, -2):  # forward, then from there backward
        with torch.no_grad():
            for p, d in zip(built.parameters(), direction, strict=True):
                p += sign * step * d
        values.append(objective())
    assert -found == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-3)
    assert len(recorder.gradients) == 4  # passes over a batch
    assert strategy._told == []


def test_failures_are_rewarded_like_the_worst_result():
    strategy = make("reinforce", batch_size=100)
    for value in (None, 0.6, 0.3, None, 0.9):
        state = TrialState.FAIL if value is None else TrialState.COMPLETE
        strategy.tell(strategy.ask(), make_result(value, state))
    assert [reward for _, _, reward in strategy._told] == [0.6, 0.3, 0.3, 0.9]  # nothing is known before the second


def test_results_find_the_vectors_they_belong_to():
    """Told in another order, by strangers, twice: log-probabilities are those of the writing."""
    strategy = make("reinforce", batch_size=100)
    asked = [strategy.ask() for _ in range(8)]
    for candidate in reversed(asked):
        strategy.tell(candidate, make_result(0.5))
    strategy.tell(Candidate(CELLS.decode((0, 1, 2, 3))), make_result(0.7))
    told = [choices for choices, _, _ in strategy._told]
    assert [CELLS.decode(c) for c in told[:-1]] == [candidate.expression for candidate in reversed(asked)]
    assert told[-1] == (0, 1, 2, 3)
    log_p = strategy.controller.judge(told)[0]
    np.testing.assert_allclose([p for _, p, _ in strategy._told], log_p.detach().numpy(), atol=1e-5)


def test_seeds_leave_torchs_random_numbers_alone():
    torch.manual_seed(0)
    wanted = torch.rand(3)
    torch.manual_seed(0)
    make("reinforce", seed=5).ask()
    assert torch.equal(torch.rand(3), wanted)


# --- Optuna ---------------------------------------------------------------------------------------------------------


def choices_of(trial: optuna.trial.FrozenTrial, space: SearchSpace) -> Choices:
    """From a study's parameters, whose names begin with their position; what is not there had no alternative."""
    by_position = {int(name.split()[0]): value for name, value in trial.params.items()}
    choices: Choices = ()
    for i in range(len(space.cardinalities)):
        (only,) = [by_position[i]] if i in by_position else space.options(choices)
        choices += (only,)
    return choices


@pytest.mark.parametrize("name", ["tpe", "nsga2"])
def test_failures_are_told_as_the_worst_outcome(name):
    strategy = make(name)
    for value in (None, 0.6, 0.3, None, 0.9):
        state = TrialState.FAIL if value is None else TrialState.COMPLETE
        strategy.tell(strategy.ask(), make_result(value, state))
    assert [trial.value for trial in strategy.study.trials] == [None, 0.6, 0.3, 0.3, 0.9]
    assert strategy.study.trials[0].state == optuna.trial.TrialState.FAIL
    losses = make(name, objective=Objective("val_loss"))
    losses.tell(losses.ask(), make_result(0.5, loss=2.0))
    losses.tell(losses.ask(), make_result(0.5, loss=5.0))
    losses.tell(losses.ask(), make_result(None, TrialState.FAIL))
    assert [trial.value for trial in losses.study.trials] == [-2.0, -5.0, -5.0]


@pytest.mark.parametrize("name", ["tpe", "nsga2"])
def test_two_objectives_are_told_and_failures_are_the_worst_of_both(name):
    strategy = make(name, objective=Objective("val_accuracy", "complexity"))
    told = {"x + x": 0.6, "exp(-x ** 2) + tanh(x)": 0.2, "tanh(x) + x": 0.4}
    for text, value in told.items():
        strategy.tell(Candidate(parse(text)), make_result(value))
    strategy.tell(strategy.ask(), make_result(None, TrialState.FAIL))
    wanted = [[0.6, 3], [0.2, 7], [0.4, 4], [0.2, 7]]
    assert [trial.values for trial in strategy.study.trials] == wanted
    assert [d.name for d in strategy.study.directions] == ["MAXIMIZE", "MINIMIZE"]


@pytest.mark.parametrize("name", ["tpe", "nsga2"])
@pytest.mark.parametrize("space", [CELLS, SHAPES, TREES], ids=["cells", "shapes", "trees"])
def test_every_result_reaches_its_choices_in_whatever_order(name, space):
    strategy = make(name, space)
    asked = [strategy.ask() for _ in range(20)]
    values = {}
    for number in np.random.default_rng(0).permutation(20):
        values.setdefault(asked[number].expression, []).append(number / 20)
        strategy.tell(asked[number], make_result(number / 20))
    assert all(trial.state == optuna.trial.TrialState.COMPLETE for trial in strategy.study.trials)
    found = {}
    for trial in strategy.study.trials:
        found.setdefault(space.decode(choices_of(trial, space)), []).append(trial.value)
    assert {e: sorted(v) for e, v in found.items()} == {e: sorted(v) for e, v in values.items()}


@pytest.mark.parametrize("name", ["tpe", "nsga2"])
@pytest.mark.parametrize("space", [CELLS, SHAPES, TREES], ids=["cells", "shapes", "trees"])
def test_strangers_are_added(name, space):
    strategy = make(name, space)
    members = [space.sample(np.random.default_rng(i)) for i in range(6)]
    strategy.tell(Candidate(members[0]), make_result(None, TrialState.FAIL))  # nothing to compare it with
    for i, member in enumerate(members):
        strategy.tell(Candidate(member), make_result(i / 10))
    strategy.tell(Candidate(members[2]), make_result(None, TrialState.FAIL))
    strategy.tell(Candidate(parse("sinh(cosh(x))")), make_result(1.0))
    trials = strategy.study.trials
    assert [trial.value for trial in trials] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0])
    assert [space.decode(choices_of(trial, space)) for trial in trials] == [*members, members[2]]
    assert space.contains(strategy.ask().expression)


def hypervolume(points: list[tuple[float, float]], worst: tuple[float, float]) -> float:
    """Area between a front (value up, cost down) and the worst point."""
    area, best = 0.0, worst[0]
    for cost, value in sorted((cost, -value) for value, cost in points):
        if -value > best:
            area += (-value - best) * (worst[1] - cost)
            best = -value
    return area


@pytest.mark.parametrize("name", ["tpe", "nsga2"])
def test_two_objectives_give_a_better_front_than_chance(name):
    """Planted: what a slot adds to the value costs nodes, and most operators cost nodes and add nothing."""
    worth = {"x": 0.0, "tanh(x)": 0.2, "atan(erf(x))": 0.6, "sin(x + sin(x))": 1.0}
    idle = [
        "erf(erf(x))",
        "x + abs(x)",
        "sin(cos(x)) + 1",
        "atan(x + 1) + x",
        "erf(x) * x * x",
        "sinh(sin(x))",
        "-(-x)",
    ]
    unary = [*worth, *idle]
    shape = ["b(b(u(x), b(u(x), u(x))), b(u(x), b(u(x), u(x))))"]
    space = spaces.get("custom")(shapes=shape, unary=unary, binary=["add", "x1 - x2", "mul"])

    def front(name: str, seed: int, **options) -> float:
        strategy = make(name, space, seed, Objective("val_accuracy", "complexity"), **options)
        points = []
        for _ in range(200):
            candidate = strategy.ask()
            value = float(np.mean([worth.get(unary[i], 0.0) for i in space.encode(candidate.expression)[1:7]]))
            points.append((value, size(candidate.expression)))
            strategy.tell(candidate, make_result(value))
        return hypervolume(points, (0.0, 40.0))

    seeds = range(3)
    learned = np.mean([front(name, seed, **({"population_size": 16} if name == "nsga2" else {})) for seed in seeds])
    chance = np.mean([front("random", seed, uniform="spellings") for seed in seeds])
    assert learned > 1.2 * chance
