"""Random search: the yardstick for every other strategy."""

from __future__ import annotations

from typing import Literal

from nas.strategies import EXHAUSTED, Candidate, Problem, RelaxedCandidate, Signal, Strategy, strategies
from search_spaces.census import FunctionSampler
from trainers.trial import TrialResult


class RandomSearch(Strategy):
    """Draws independently and learns nothing."""

    weighs_cost = True  # as little as anything else

    def __init__(self, problem: Problem, over_functions: bool) -> None:
        super().__init__(problem)
        self.sampler = FunctionSampler(problem.space, trainable=True) if over_functions else problem.space

    def ask(self) -> Candidate | Signal | None:
        if isinstance(self.sampler, FunctionSampler) and not self.sampler.functions:
            return EXHAUSTED
        return Candidate(self.sampler.sample(self.rng))

    def tell(self, candidate: Candidate | RelaxedCandidate, result: TrialResult) -> None:
        """A random search has no use for results."""


@strategies.register("random")
def random(problem: Problem, *, uniform: Literal["functions", "spellings"] = "functions") -> Strategy:
    """Uniform over the different trainable functions of a space, or over its spellings.

    Raises:
        ValueError: the functions of a space that is too large to be enumerated.
    """
    try:
        return RandomSearch(problem, uniform == "functions")
    except ValueError as error:
        raise ValueError(f"{error}; draw uniformly over spellings instead: strategy.uniform=spellings") from error
