"""Gradient-based search: one network with all functions in it, trained once; its favourites are the next asks.

DrNAS (arXiv 2006.10355) on a cell of operators, as GRAFS (arXiv 2408.06820) does for activation functions; see
trainers.relaxed. The weight of a function is the product of the weights of its operators, and functions are asked in
falling order of it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated

import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt

from nas.strategies import EXHAUSTED, Candidate, Problem, RelaxedCandidate, Signal, Strategy, strategies
from search_spaces.shape_space import ShapeSpace
from search_spaces.space import Choices, ConstrainedSpace, SearchSpace
from trainers.trial import Relaxation, TrialResult


class Gradient(Strategy):
    """Asks for a relaxation, waits for it, and asks for the functions that it favours.

    A relaxation that fails is asked for again with another seed, up to ``attempts`` times; after that all operators
    count as equal.

    Raises:
        ValueError: the space is not of one fixed shape.
    """

    def __init__(self, problem: Problem, relaxation: Relaxation, attempts: int) -> None:
        super().__init__(problem)
        self.relaxation, self.attempts = relaxation, attempts
        self.shape_space = single_shape(problem.space)
        self._attempt = 0
        self._waiting = False
        self._favourites: Iterator[Choices] | None = None

    def ask(self) -> Candidate | RelaxedCandidate | Signal | None:
        if self._favourites is None:
            if self._waiting:
                return None
            self._waiting = True
            return RelaxedCandidate(replace(self.relaxation, attempt=self._attempt))
        for choices in self._favourites:
            try:
                return Candidate(self.space.decode(choices))
            except ValueError:  # a constraint of the space
                continue
        return EXHAUSTED

    def tell(self, candidate: Candidate | RelaxedCandidate, result: TrialResult) -> None:
        if not isinstance(candidate, RelaxedCandidate) or self._favourites is not None:
            return
        self._waiting = False
        self._attempt += 1
        sizes = self.shape_space.cardinalities[1:]
        if result.weights is not None and tuple(map(len, result.weights)) == sizes:
            self._favourites = by_weight(result.weights)
        elif self._attempt >= self.attempts:
            self._favourites = by_weight([self.rng.uniform(0.999, 1.0, n).tolist() for n in sizes])  # in random order


def single_shape(space: SearchSpace) -> ShapeSpace:
    """The space without its constraints, if it has one fixed shape."""
    while isinstance(space, ConstrainedSpace):
        if space.forbidden:  # they would take weight from the others
            raise ValueError(
                f"gradient relaxes all operators of a space, this one forbids {', '.join(sorted(space.forbidden))}: "
                "leave them out of its lists instead"
            )
        space = space.space
    if not isinstance(space, ShapeSpace) or len(space.shapes) != 1:
        raise ValueError(
            "gradient relaxes spaces of one fixed shape, such as swish2017, three_node, grafs or a custom one with a "
            "single shape; choose another space or another strategy"
        )
    return space


def relaxation_of(
    space: SearchSpace, learning_rate: float = Relaxation.learning_rate, epochs: int | None = None
) -> Relaxation:
    """The relaxation of a space of one fixed shape. Raises ValueError for any other."""
    shape = single_shape(space)
    unary, binary, nary = (tuple(map(str, shape.templates[kind])) for kind in "ubn")
    return Relaxation(shape.shape_texts[0], unary, binary, nary, learning_rate, epochs)


def by_weight(weights: list[list[float]]) -> Iterator[Choices]:
    """All choice vectors of the only shape, the largest product of weights first."""
    orders = [np.argsort(-np.asarray(w), kind="stable").tolist() for w in weights]
    logs = [np.log(np.maximum(sorted(w, reverse=True), 1e-30)) for w in weights]
    first = (0,) * len(weights)
    heap = [(-sum(log[0] for log in logs), first)]
    seen = {first}
    while heap:
        _, ranks = heapq.heappop(heap)
        yield (0, *(order[rank] for order, rank in zip(orders, ranks, strict=True)))
        for slot in range(len(ranks)):
            nearby = (*ranks[:slot], ranks[slot] + 1, *ranks[slot + 1 :])
            if nearby[slot] < len(orders[slot]) and nearby not in seen:
                seen.add(nearby)
                heapq.heappush(heap, (-float(sum(log[r] for log, r in zip(logs, nearby, strict=True))), nearby))


@strategies.register("gradient")
def gradient(
    problem: Problem,
    *,
    learning_rate: PositiveFloat = Relaxation.learning_rate,
    epochs: Annotated[int, Field(ge=2)] | None = None,
    attempts: PositiveInt = 2,
) -> Strategy:
    """``learning_rate`` and ``epochs`` are of the relaxation; by default it takes five times a function's epochs."""
    return Gradient(problem, relaxation_of(problem.space, learning_rate, epochs), attempts)
