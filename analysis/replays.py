"""How good is a search strategy? Figures from replays against a table of results.

A replay is the list of functions that a search evaluated, in order. The strategy saw one seed's results; a function's
true value is its mean over the table's other seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from analysis.yardstick import ResultTable, TableError

Floats = NDArray[np.float64]
CHECKPOINTS = (10, 50, 100, 200)
"""Numbers of evaluations after which the regret is told."""
SWISH, SILU = "Swish-like", "SiLU"


@dataclass(frozen=True)
class Truth:
    """What counts in replays that saw one seed.

    Attributes:
        seen: every function's value with that seed; NaN for a failure.
        value: its mean over the other seeds; -inf if one of those failed.
        targets: for every target the rows that are of it.
    """

    seen: Floats
    value: Floats
    targets: Mapping[str, frozenset[int]]


class Judge:
    """Judges replays by one metric of a table; larger is better throughout."""

    def __init__(self, table: ResultTable, metric: str) -> None:
        self.values = table.values(metric)
        if np.isnan(self.values).any(1).all():
            raise TableError(f"no function has {metric} with every seed, so that there is nothing to judge by")
        self.seeds = len(table.seeds)
        self.swish = np.flatnonzero(table.functions["swish_family"].to_numpy(bool))
        silu = np.flatnonzero((table.functions["name"] == "SiLU").to_numpy())
        self.silu = int(silu[0]) if len(silu) else None
        self.noise = self._noise()
        self.truth = cache(self._truth)

    def _noise(self) -> float:
        """Typical standard deviation of a function's value over seeds, among the better half."""
        complete = self.values[~np.isnan(self.values).any(1)]
        better = complete[complete.mean(1) >= np.median(complete.mean(1))]
        return float(np.sqrt(np.median(better.var(1, ddof=1))))

    @property
    def regret_of_all(self) -> float:
        """The regret of those who have evaluated every function, mean over the seeds that may have been seen."""
        everything = np.arange(len(self.values))
        return float(np.mean([self.regret(everything, i, len(everything))[-1] for i in range(self.seeds)]))

    def _truth(self, number: int) -> Truth:
        column = number % self.seeds
        others = np.delete(self.values, column, axis=1)
        value = np.where(np.isnan(others).any(1), -np.inf, others.mean(1))
        order = [int(row) for row in np.argsort(-value, kind="stable") if np.isfinite(value[row])]
        targets = {
            "top 1 %": frozenset(order[: math.ceil(len(value) / 100)]),
            "top 10": frozenset(order[:10]),
        }
        if self.silu is not None:  # one that fails is no target, and no measure for the others
            silu = value[self.silu]
            least = silu - 1.96 * self.noise * math.sqrt(2 / others.shape[1])
            within = {int(row) for row in (*self.swish, self.silu) if value[row] >= least}
            targets[SWISH] = frozenset(within if np.isfinite(silu) else ())
            targets[SILU] = frozenset([self.silu])
        return Truth(self.values[:, column], value, targets)

    def regret(self, functions: NDArray[np.int64], number: int, evaluations: int) -> Floats:
        """After every evaluation: how much the function that looks best by then is truly worse than the best of all.

        Shape (evaluations,). The median of the functions that never fail bounds it, since losses have no bound; it also
        stands for having nothing yet. A replay that ended early keeps what it had.
        """
        truth = self.truth(number)
        finite = truth.value[np.isfinite(truth.value)]
        best, worst = float(finite.max()), float(np.median(finite))
        regret = np.full(evaluations, best - worst)
        seen, current = -math.inf, best - worst
        for i in range(evaluations):
            row = int(functions[i]) if i < len(functions) else -1
            if row >= 0 and truth.seen[row] > seen:  # never for a failure, NaN
                seen, current = float(truth.seen[row]), best - max(float(truth.value[row]), worst)
            regret[i] = current
        return regret

    def first_hit(self, functions: NDArray[np.int64], number: int, target: str) -> float:
        """After how many evaluations a function of the target was first evaluated; infinity if none was."""
        wanted = self.truth(number).targets[target]
        return next((i + 1.0 for i, row in enumerate(functions) if int(row) in wanted), math.inf)


@dataclass(frozen=True)
class Figures:
    """One strategy over all replays.

    Attributes:
        regret: (replays, evaluations).
        hits: for every target, evaluations until the first hit, shape (replays,); infinity for none.
    """

    regret: Floats
    hits: Mapping[str, Floats]

    @property
    def by_chance(self) -> bool:
        """Whether replays differ by more than the seed that they saw, so that an interval means something."""
        return 2 * len(np.unique(self.regret, axis=0)) > len(self.regret)

    def regret_at(self, evaluations: int) -> Floats:
        return np.asarray(self.regret[:, evaluations - 1])

    def median_hit(self, target: str) -> float:
        return float(np.median(self.hits[target]))

    def hit_rate(self, target: str) -> float:
        return float(np.isfinite(self.hits[target]).mean())


def figures(judge: Judge, replays: Sequence[NDArray[np.int64]], evaluations: int) -> Figures:
    regret = np.stack([judge.regret(functions, i, evaluations) for i, functions in enumerate(replays)])
    targets = judge.truth(0).targets
    hits = {t: np.array([judge.first_hit(f, i, t) for i, f in enumerate(replays)]) for t in targets}
    return Figures(regret, hits)


def paired_test(a: Floats, b: Floats) -> float:
    """Two-sided p of Wilcoxon's signed-rank test on paired values; 1 if all pairs are equal."""
    difference = a - b
    if not np.any(difference):
        return 1.0
    return float(stats.wilcoxon(difference, zero_method="zsplit").pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction (1979) for several tests, in the given order."""
    order = np.argsort(p_values)
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[int(i)]))
        adjusted[int(i)] = largest
    return adjusted
