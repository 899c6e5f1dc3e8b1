"""Which of the functions found go on to be retrained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nas.strategies import Objective
from search_spaces.expression import Expression
from trainers.trial import TrialResult


@dataclass(frozen=True)
class Finalist:
    """A function with a completed training."""

    expression: Expression
    result: TrialResult
    objective: Objective

    @property
    def value(self) -> tuple[float, float]:
        """Larger is better; ties go to the smaller validation loss."""
        value = self.objective.value(self.result)
        return (-float("inf") if value is None else value, -self.result.metrics["val_loss"])

    @property
    def cost(self) -> float:
        cost = self.objective.cost_of(self.expression, self.result)
        return float("inf") if cost is None else cost


def ranked(finalists: Sequence[Finalist]) -> list[Finalist]:
    """Best first. Where a cost counts, the Pareto front comes first: those that no other one beats in both."""
    by_value = sorted(finalists, key=lambda f: f.value, reverse=True)
    if not by_value or by_value[0].objective.cost is None:
        return by_value
    by_value.sort(key=lambda f: (-f.value[0], f.cost))  # of equally good ones the cheaper beats the dearer
    front, others, cheapest = [], [], float("inf")
    for finalist in by_value:
        if finalist.cost < cheapest:
            cheapest = finalist.cost
            front.append(finalist)
        else:
            others.append(finalist)
    return front + others
