"""Regularised evolution: Real, Aggarwal, Huang, Le 2019 (arXiv 1802.01548), algorithm 1.

The population is a queue: every new member pushes out the oldest, however good it was. A parent is the best of a random
tournament; its child is a mutation or, with some probability, a crossover of two such parents.
"""

from __future__ import annotations

from collections import deque
from typing import Annotated

from pydantic import Field, PositiveInt

from nas.strategies import Candidate, Problem, RelaxedCandidate, Signal, Strategy, strategies
from search_spaces.expression import Expression
from trainers.trial import TrialResult


class RegularizedEvolution(Strategy):
    """Tournament selection with removal by age."""

    def __init__(
        self,
        problem: Problem,
        population_size: int,
        tournament_size: int,
        crossover_probability: float,
    ) -> None:
        if not 1 <= tournament_size <= population_size:
            raise ValueError(f"tournament_size is 1 to population_size = {population_size}, got {tournament_size}")
        if not 0 <= crossover_probability <= 1:
            raise ValueError(f"crossover_probability lies between 0 and 1, got {crossover_probability}")
        super().__init__(problem)
        self.population: deque[tuple[float, Expression]] = deque(maxlen=population_size)
        self.tournament_size = tournament_size
        self.crossover_probability = crossover_probability

    def ask(self) -> Candidate | Signal | None:
        """Random members until the population is full (failures do not count), children of it from then on."""
        if len(self.population) < (self.population.maxlen or 0):
            return Candidate(self.space.sample(self.rng))
        parent = self._tournament()
        if self.rng.random() < self.crossover_probability:
            return Candidate(self.space.crossover(parent, self._tournament(), self.rng))
        return Candidate(self.space.mutate(parent, self.rng))

    def tell(self, candidate: Candidate | RelaxedCandidate, result: TrialResult) -> None:
        value = self.objective.value(result)
        if value is not None and isinstance(candidate, Candidate) and self.space.contains(candidate.expression):
            self.population.append((value, candidate.expression))

    def _tournament(self) -> Expression:
        """The best of a few members drawn without replacement; among equals the first drawn."""
        drawn = self.rng.choice(len(self.population), self.tournament_size, replace=False)
        return max((self.population[int(i)] for i in drawn), key=lambda member: member[0])[1]


@strategies.register("evolution")
def evolution(
    problem: Problem,
    *,
    population_size: Annotated[int, Field(ge=1, le=1_000_000)] = 32,
    tournament_size: PositiveInt = 8,
    crossover_probability: float = 0.2,
) -> Strategy:
    return RegularizedEvolution(problem, population_size, tournament_size, crossover_probability)
