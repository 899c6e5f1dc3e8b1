"""How many different functions a space holds: every spelling is evaluated once and sorted into classes by value.

Signatures of a million spellings would fill the memory, so only four weighted means of each are kept. Equal functions
have means that differ by rounding alone (below 1e-9), different ones differ in at least one of them.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search_spaces.equivalence import WEIGHTS, Level, examine
from search_spaces.expression import Expression, size
from search_spaces.space import SearchSpace
from search_spaces.values import batches, one_thread

LIMIT = 5_000_000
"""Largest number of spellings that is enumerated; the million of four_node takes 53 s and 0.9 GB."""
_MERGE = 1e-8
_LARGEST = 8


@dataclass(frozen=True)
class FunctionClass:
    """Spellings that are one function: how many, and the simplest of them."""

    spellings: int
    expression: Expression


@dataclass(frozen=True)
class Census:
    """What an enumeration found.

    Attributes:
        spellings: members of the space.
        functions: different functions among them.
        finite: those that are finite for inputs within ±3.1.
        trainable: those that are finite and not affine.
        largest: the classes with most spellings.
        representatives: number (in the order of enumeration) of the simplest spelling of every function.
        is_trainable: for every representative, whether it is finite and not affine.
        seconds, peak_mb: what it cost; the memory is that of the whole process.
    """

    spellings: int
    functions: int
    finite: int
    trainable: int
    largest: tuple[FunctionClass, ...]
    representatives: NDArray[np.int64]
    is_trainable: NDArray[np.bool_]
    seconds: float
    peak_mb: float

    def chosen(self, trainable: bool) -> NDArray[np.int64]:
        """The representatives, or the trainable ones alone."""
        return self.representatives[self.is_trainable] if trainable else self.representatives


def take_census(space: SearchSpace, level: Level = "exact") -> Census:
    """Enumerate a space and count its functions.

    Raises:
        ValueError: the space has more than :data:`LIMIT` spellings.
    """
    check_size(space)
    start = time.perf_counter()
    with one_thread():
        means, finite, affine, sizes = _measure(space.enumerate(), level)
    labels = merge(means)
    order = np.lexsort((np.arange(len(sizes)), sizes, labels))  # of a class, the simplest spelling first
    _, first, counts = np.unique(labels[order], return_index=True, return_counts=True)
    simplest = order[first]
    by_place = np.argsort(simplest)
    representatives, counts = simplest[by_place], counts[by_place]
    trainable = finite[representatives] & ~affine[representatives]
    biggest = np.argsort(-counts, kind="stable")[:_LARGEST]
    shown = dict(pick(space, representatives[biggest]))
    return Census(
        spellings=len(sizes),
        functions=len(representatives),
        finite=int(finite[representatives].sum()),
        trainable=int(trainable.sum()),
        largest=tuple(FunctionClass(int(counts[i]), shown[int(representatives[i])]) for i in biggest),
        representatives=representatives,
        is_trainable=trainable,
        seconds=time.perf_counter() - start,
        peak_mb=peak_memory_mb(),
    )


def check_size(space: SearchSpace) -> None:
    """Raises ValueError for a space that is too large to enumerate."""
    if space.size > LIMIT:
        raise ValueError(f"a space is enumerated up to {LIMIT:,} spellings, this one has {space.size:,}")


def _measure(expressions: Iterable[Expression], level: Level) -> tuple[NDArray[Any], ...]:
    """Means, finite, affine and node count of every expression."""
    columns: list[tuple[NDArray[Any], ...]] = []
    for batch in batches(expressions):
        found = examine(batch, level)
        sizes = np.array([size(expression) for expression in batch], dtype=np.int16)
        columns.append((found.signatures @ WEIGHTS, found.finite, found.affine, sizes))
    return tuple(map(np.concatenate, zip(*columns, strict=True)))


def merge(means: NDArray[np.float64], tolerance: float = _MERGE) -> NDArray[np.int64]:
    """Class numbers: rows that are chained by steps of at most the tolerance in every column are one class.

    One column after the other splits the classes at every gap wider than the tolerance, until none splits any more.
    """
    labels = np.zeros(len(means), dtype=np.int64)
    classes = 0
    while True:
        for column in means.T:
            order = np.lexsort((column, labels))
            new = (np.diff(labels[order]) != 0) | (np.diff(column[order]) > tolerance)
            labels[order] = np.concatenate([[0], np.cumsum(new)])
        if labels.max(initial=0) == classes:
            return labels
        classes = int(labels.max())


def pick(space: SearchSpace, numbers: Iterable[int]) -> Iterator[tuple[int, Expression]]:
    """(number, expression) of those members, in the order of enumeration."""
    wanted = set(map(int, numbers))
    for number, expression in enumerate(space.enumerate()):
        if not wanted:
            return
        if number in wanted:
            wanted.discard(number)
            yield number, expression


class FunctionSampler:
    """Draws uniformly from the different functions of a space, not from its spellings.

    Args:
        space: a space of at most :data:`LIMIT` spellings; it is enumerated once, when the first sample is drawn.
        trainable: leave out functions that are not finite or are affine.

    Raises:
        ValueError: the space is larger.
    """

    def __init__(self, space: SearchSpace, *, trainable: bool = False) -> None:
        check_size(space)
        self.space = space
        self.trainable = trainable

    @cached_property
    def functions(self) -> list[Expression]:
        """The simplest spelling of every function."""
        numbers = take_census(self.space).chosen(self.trainable)
        return [expression for _, expression in pick(self.space, numbers)]

    def sample(self, rng: np.random.Generator) -> Expression:
        return self.functions[int(rng.integers(len(self.functions)))]


def peak_memory_mb() -> float:
    """Largest memory that this process has had so far, in MB (10^6 bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
