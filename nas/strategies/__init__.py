"""Search strategies, one decorated file each, behind ``ask`` and ``tell``.

A strategy is asked and told; it runs nothing and knows no process, no thread and no clock. It may be asked again before
earlier asks are answered, told failures, and told results it never asked for. The same seed and the same sequence of
asks and tells give the same answers, so that replaying a study's events restores a strategy.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, Final, Literal

import numpy as np
from numpy.typing import NDArray

from search_spaces.expression import Expression, size
from search_spaces.registry import Registry
from search_spaces.space import SearchSpace
from trainers.trial import METRICS, Relaxation, TrialResult

Cost = Literal["complexity", "time"]
Spectrum = Callable[[Expression], NDArray[np.float64]]


class Signal(Enum):
    """What ``ask`` answers when it has no candidate."""

    EXHAUSTED = "exhausted"


EXHAUSTED: Final = Signal.EXHAUSTED
"""There will be no further candidate."""


@dataclass(frozen=True)
class Candidate:
    """A function that ``ask`` proposes."""

    expression: Expression


@dataclass(frozen=True)
class RelaxedCandidate:
    """All functions of a shape at once, in one network whose training says which ones are worth a look."""

    relaxation: Relaxation


@dataclass(frozen=True)
class Objective:
    """What a search optimises: a metric, and a cost that is to be small beside it, if one is named.

    Attributes:
        metric: one of trainers.trial.METRICS.
        cost: ``complexity``, the number of nodes, or ``time``, of the function's forward and backward pass.
    """

    metric: str = "val_accuracy"
    cost: Cost | None = None

    def value(self, result: TrialResult) -> float | None:
        """The metric, negated if smaller is better; None for a result without one, such as a failure."""
        value = result.metrics.get(self.metric)
        if value is None or result.state == "FAIL":
            return None
        return value if METRICS[self.metric] == "max" else -value

    def cost_of(self, expression: Expression, result: TrialResult) -> float | None:
        """The cost; None for a failure whose time is not known, and where no cost is named."""
        return float(size(expression)) if self.cost == "complexity" else result.cost if self.cost else None


@dataclass(frozen=True)
class Problem:
    """What a strategy is given.

    Attributes:
        space: of the functions to propose.
        objective: what counts.
        seed: of the strategy's random numbers.
        spectrum: the spectrum of a function's network at initialisation (trainers.fisher), shape (k,), for the
            strategies that can use it; the same function always has the same.
    """

    space: SearchSpace
    objective: Objective = Objective()
    seed: int = 0
    spectrum: Spectrum | None = None


class Strategy(ABC):
    """One way to search a space."""

    patience: ClassVar[int] = 100
    """So many proposals in a row that are known or cannot work; then a random new function takes their place."""

    weighs_cost: ClassVar[bool] = False
    """Whether it makes anything of ``objective.cost``."""

    def __init__(self, problem: Problem) -> None:
        if problem.objective.cost and not self.weighs_cost:
            raise ValueError(
                f"search.cost={problem.objective.cost} is a second objective, and this strategy has one; give "
                "strategy=nsga2 (or tpe), or search.cost=null"
            )
        self.space = problem.space
        self.objective = problem.objective
        self.rng = np.random.default_rng(problem.seed)

    @abstractmethod
    def ask(self) -> Candidate | RelaxedCandidate | Signal | None:
        """The next candidate; None to be asked again after a further ``tell`` (nothing changes by such an ask)."""

    @abstractmethod
    def tell(self, candidate: Candidate | RelaxedCandidate, result: TrialResult) -> None:
        """The outcome of a candidate, asked for or not. A stopped (PRUNED) one has the metrics of its last report."""


strategies: Registry[Callable[..., Strategy]] = Registry("strategy", "nas.strategies")
"""``strategies.get(name)(problem, **options)``"""
