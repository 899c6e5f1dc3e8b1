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
from typing import Final

import numpy as np

from search_spaces.expression import Expression
from search_spaces.registry import Registry
from search_spaces.space import SearchSpace
from trainers.trial import METRICS, TrialResult


class Signal(Enum):
    """What ``ask`` answers when it has no candidate."""

    EXHAUSTED = "exhausted"


EXHAUSTED: Final = Signal.EXHAUSTED
"""There will be no further candidate."""


@dataclass(frozen=True)
class Candidate:
    """What ``ask`` proposes."""

    expression: Expression


@dataclass(frozen=True)
class Objective:
    """The metric that a search optimises."""

    metric: str = "val_accuracy"

    def value(self, result: TrialResult) -> float | None:
        """The metric, negated if smaller is better; None for a result without one, such as a failure."""
        value = result.metrics.get(self.metric)
        if value is None or result.state == "FAIL":
            return None
        return value if METRICS[self.metric] == "max" else -value


class Strategy(ABC):
    """One way to search a space."""

    def __init__(self, space: SearchSpace, objective: Objective, seed: int) -> None:
        self.space = space
        self.objective = objective
        self.rng = np.random.default_rng(seed)

    @abstractmethod
    def ask(self) -> Candidate | Signal | None:
        """The next candidate; None to be asked again after a further ``tell`` (nothing changes by such an ask)."""

    @abstractmethod
    def tell(self, candidate: Candidate, result: TrialResult) -> None:
        """The outcome of a candidate, asked for or not. A stopped (PRUNED) one has the metrics of its last report."""


strategies: Registry[Callable[..., Strategy]] = Registry("strategy", "nas.strategies")
"""``strategies.get(name)(space, objective, seed, **options)``"""
