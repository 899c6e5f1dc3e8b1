"""Random search: the yardstick for every other strategy."""

from __future__ import annotations

from typing import Literal

from nas.strategies import EXHAUSTED, Candidate, Objective, Signal, Strategy, strategies
from search_spaces.census import FunctionSampler
from search_spaces.space import SearchSpace
from trainers.trial import TrialResult


class RandomSearch(Strategy):
    """Draws independently and learns nothing."""

    def __init__(self, space: SearchSpace, objective: Objective, seed: int, over_functions: bool) -> None:
        super().__init__(space, objective, seed)
        self.sampler = FunctionSampler(space, trainable=True) if over_functions else space

    def ask(self) -> Candidate | Signal | None:
        if isinstance(self.sampler, FunctionSampler) and not self.sampler.functions:
            return EXHAUSTED
        return Candidate(self.sampler.sample(self.rng))

    def tell(self, candidate: Candidate, result: TrialResult) -> None:
        """A random search has no use for results."""


@strategies.register("random")
def random(
    space: SearchSpace, objective: Objective, seed: int, *, uniform: Literal["spellings", "functions"] = "spellings"
) -> Strategy:
    """Uniform over spellings, or over the different trainable functions of a space that can be enumerated."""
    return RandomSearch(space, objective, seed, uniform == "functions")
