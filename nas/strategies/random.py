"""Random search: the yardstick for every other strategy."""

from __future__ import annotations

from nas.strategies import Candidate, Objective, Signal, Strategy, strategies
from search_spaces.space import SearchSpace
from trainers.trial import TrialResult


class RandomSearch(Strategy):
    """Draws spellings uniformly and learns nothing."""

    def ask(self) -> Candidate | Signal | None:
        return Candidate(self.space.sample(self.rng))

    def tell(self, candidate: Candidate, result: TrialResult) -> None:
        """A random search has no use for results."""


@strategies.register("random")
def random(space: SearchSpace, objective: Objective, seed: int) -> Strategy:
    return RandomSearch(space, objective, seed)
