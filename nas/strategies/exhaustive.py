"""Exhaustive search, in order of complexity: Occam's razor, and the only strategy that misses nothing."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from pydantic import NonNegativeInt

from nas.strategies import EXHAUSTED, Candidate, Problem, RelaxedCandidate, Signal, Strategy, strategies
from nas.strategies.gradient import relaxation_of
from search_spaces.census import LIMIT
from trainers.trial import TrialResult


class Exhaustive(Strategy):
    """Every spelling of a space, those of few nodes first. The seed changes nothing.

    Raises:
        ValueError: the space is too large ever to come to its end.
    """

    patience = LIMIT  # it comes to its end by itself
    weighs_cost = True  # it ignores all results alike

    def __init__(self, problem: Problem, relaxations: int) -> None:
        super().__init__(problem)
        if problem.space.size > LIMIT:
            raise ValueError(
                f"exhaustive takes spaces of at most {LIMIT:,} spellings, this one has {problem.space.size:,}: it "
                "would never come to its end; choose another strategy, or a smaller space"
            )
        self._spellings = problem.space.enumerate_by_size()
        relaxation = relaxation_of(problem.space) if relaxations else None
        self._relaxations = deque(replace(relaxation, attempt=i) for i in range(relaxations) if relaxation)

    def ask(self) -> Candidate | RelaxedCandidate | Signal | None:
        expression = next(self._spellings, None)
        if expression is not None:
            return Candidate(expression)
        return RelaxedCandidate(self._relaxations.popleft()) if self._relaxations else EXHAUSTED

    def tell(self, candidate: Candidate | RelaxedCandidate, result: TrialResult) -> None:
        """An exhaustive search has no use for results."""


@strategies.register("exhaustive")
def exhaustive(problem: Problem, *, relaxations: NonNegativeInt = 0) -> Strategy:
    """After the functions, ``relaxations`` of the whole space are trained, for ``nas bench`` to replay."""
    return Exhaustive(problem, relaxations)
