"""What every strategy must do. Run for all registered ones by tests/nas/test_strategies.py; of use for your own too."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace

from nas.strategies import EXHAUSTED, Candidate, RelaxedCandidate, Strategy
from nas.strategies.exhaustive import Exhaustive
from nas.strategies.gradient import Gradient
from search_spaces.expression import size
from search_spaces.parser import parse
from search_spaces.shape_space import ShapeSpace
from tests.records import make_result
from trainers.trial import TrialResult, TrialState

Make = Callable[[int], Strategy]
DETERMINISTIC = (Exhaustive, Gradient)
"""Strategies whose asks their seed does not change."""


def outcome(candidate: Candidate, number: int) -> TrialResult:
    """A made-up result that depends on the candidate alone; some fail, some are pruned."""
    value = (zlib.crc32(str(candidate.expression).encode()) % 1000) / 2000 + 1 / (2 + size(candidate.expression))
    if number % 7 == 3:
        return make_result(None, TrialState.FAIL)
    return make_result(value, TrialState.PRUNED if number % 5 == 2 else TrialState.COMPLETE)


def ask(strategy: Strategy) -> Candidate:
    """The next function; a relaxation that is asked for before is answered on the way."""
    answer = strategy.ask()
    while isinstance(answer, RelaxedCandidate):
        strategy.tell(answer, relaxed_outcome(answer))
        answer = strategy.ask()
    assert isinstance(answer, Candidate), answer
    return answer


def relaxed_outcome(candidate: RelaxedCandidate) -> TrialResult:
    """Made-up weights for every slot, no two alike."""
    r = candidate.relaxation
    space = ShapeSpace([r.shape], r.unary, r.binary, r.nary)
    rows = [[1.0 + (7 * i + 3 * slot) % n for i in range(n)] for slot, n in enumerate(space.cardinalities[1:])]
    return replace(make_result(0.9), weights=[[value / sum(row) for value in row] for row in rows])


def same_seed_and_tells_give_the_same_asks(make: Make) -> None:
    first, second = make(5), make(5)
    for number in range(120):
        a, b = ask(first), ask(second)
        assert a == b
        first.tell(a, outcome(a, number))
        second.tell(b, outcome(b, number))


def another_seed_gives_other_asks(make: Make) -> None:
    """Where chance plays a part: not in the order of complexity, nor in that of a relaxation's weights."""
    first, second = make(1), make(2)
    assert isinstance(first, DETERMINISTIC) or [ask(first) for _ in range(10)] != [ask(second) for _ in range(10)]


def asks_are_members_of_the_space(make: Make) -> None:
    strategy = make(0)
    for number in range(150):
        candidate = ask(strategy)
        assert strategy.space.contains(candidate.expression)
        strategy.tell(candidate, outcome(candidate, number))


def many_asks_may_be_pending(make: Make) -> None:
    strategy = make(0)
    pending = [ask(strategy) for _ in range(60)]
    for number, candidate in reversed(list(enumerate(pending))):
        strategy.tell(candidate, outcome(candidate, number))
    ask(strategy)


def failures_alone_do_not_stop_it(make: Make) -> None:
    strategy = make(0)
    for _ in range(120):
        answer = strategy.ask()
        assert isinstance(answer, Candidate | RelaxedCandidate)
        strategy.tell(answer, make_result(None, TrialState.FAIL))
    ask(strategy)


def results_it_never_asked_for_are_taken(make: Make) -> None:
    strategy = make(0)
    for number in range(60):
        stranger = Candidate(strategy.space.sample(strategy.rng))
        strategy.tell(stranger, outcome(stranger, number))
    strategy.tell(Candidate(parse("sin(sin(sin(x)))")), make_result(0.99))  # not even of its space
    assert strategy.space.contains(ask(strategy).expression)


def no_metric_is_no_crash(make: Make) -> None:
    """A worker lost before its first report has a state and nothing else."""
    strategy = make(0)
    for state in (TrialState.FAIL, TrialState.PRUNED, TrialState.COMPLETE):
        strategy.tell(ask(strategy), TrialResult(state))
    assert strategy.ask() is not EXHAUSTED


def an_ask_that_must_wait_changes_nothing(make: Make) -> None:
    """A strategy that answers None, as long as a result is outstanding, goes on as if it had not been asked."""
    patient, pestered = make(3), make(3)
    first = patient.ask()
    assert first == pestered.ask()
    if isinstance(first, RelaxedCandidate):
        assert [pestered.ask() for _ in range(5)] == [None] * 5
        for strategy in (patient, pestered):
            strategy.tell(first, relaxed_outcome(first))
        assert [ask(patient) for _ in range(5)] == [ask(pestered) for _ in range(5)]


CONTRACT = (
    same_seed_and_tells_give_the_same_asks,
    another_seed_gives_other_asks,
    asks_are_members_of_the_space,
    many_asks_may_be_pending,
    failures_alone_do_not_stop_it,
    results_it_never_asked_for_are_taken,
    no_metric_is_no_crash,
    an_ask_that_must_wait_changes_nothing,
)
