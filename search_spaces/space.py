"""Search spaces: finite sets of expressions that can be sampled, changed and enumerated.

Strategies handle expressions; :meth:`SearchSpace.encode` and :func:`~search_spaces.expression.tokens` give them the two
other views that learners want, a choice vector of fixed length and a sequence of tokens.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

import numpy as np

from search_spaces.expression import Call, Expression, Var, size, tokens, walk
from search_spaces.operators import OPERATORS
from search_spaces.registry import nearest

Choices = tuple[int, ...]
_TRIES = 200


class SearchSpace(ABC):
    """A finite set of expressions. A *spelling* is one way to build a function; many spellings may be one function."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of spellings."""

    @property
    @abstractmethod
    def cardinalities(self) -> tuple[int, ...]:
        """Number of options at every position of the choice vector."""

    @abstractmethod
    def options(self, prefix: Choices) -> Sequence[int]:
        """What may come next in a choice vector that begins so, in rising order; every vector made of such choices is
        a member's (in a constrained space, some are not: ``decode`` refuses them)."""

    @abstractmethod
    def decode(self, choices: Choices) -> Expression:
        """The expression of a choice vector. Raises ValueError for one that stands for none."""

    @abstractmethod
    def encode(self, expression: Expression) -> Choices:
        """A choice vector of the expression. Raises ValueError if the space does not contain it."""

    @abstractmethod
    def enumerate(self) -> Iterator[Expression]:
        """All spellings, lazily, always in the same order."""

    def enumerate_by_size(self) -> Iterator[Expression]:
        """All spellings, those of few nodes first, lazily: one pass over the space for every number of nodes.

        Memory is what one expression needs, however large the space; the first pass finds out where to begin.
        """
        nodes: int | None = 0
        while nodes is not None:
            larger: int | None = None
            for expression in self.enumerate():
                n = size(expression)
                if n == nodes:
                    yield expression
                elif n > nodes and (larger is None or n < larger):
                    larger = n
            nodes = larger

    @abstractmethod
    def sample(self, rng: np.random.Generator) -> Expression:
        """Uniform over spellings. For uniform over functions see :class:`search_spaces.census.FunctionSampler`."""

    @property
    @abstractmethod
    def mutations(self) -> tuple[str, ...]:
        """The kinds of mutation that make sense here."""

    @abstractmethod
    def mutate_as(self, kind: str, expression: Expression, rng: np.random.Generator) -> Expression:
        """A member that differs by one mutation of that kind, one of :attr:`mutations`.

        The expression itself comes back if the kind cannot change it, such as removing a parameter where none is.
        """

    @abstractmethod
    def crossover(self, a: Expression, b: Expression, rng: np.random.Generator) -> Expression:
        """A member made of parts of both."""

    @property
    @abstractmethod
    def description(self) -> dict[str, list[str]]:
        """What the space is made of, for people: a title to formulas."""

    def contains(self, expression: Expression) -> bool:
        try:
            self.encode(expression)
        except ValueError:
            return False
        return True

    def mutate(self, expression: Expression, rng: np.random.Generator) -> Expression:
        """A member that differs by one mutation of a random kind; the same one only if no kind can change it."""
        for i in rng.permutation(len(self.mutations)):
            child = self.mutate_as(self.mutations[i], expression, rng)
            if child != expression:
                return child
        return expression

    def vocabulary(self, samples: int = 20_000) -> tuple[str, ...]:
        """Every token of the space's first ``samples`` spellings and of as many random ones, sorted."""
        rng = np.random.default_rng(0)
        draws = (self.sample(rng) for _ in range(min(samples, self.size)))
        return tuple(sorted({token for e in (*islice(self.enumerate(), samples), *draws) for token in tokens(e)}))


class ConstrainedSpace(SearchSpace):
    """The members of a space that meet a condition. Its ``size`` is an upper bound: the size of the whole space."""

    def __init__(
        self,
        space: SearchSpace,
        condition: Callable[[Expression], bool],
        says: str,
        forbidden: frozenset[str] = frozenset(),
    ) -> None:
        self.space = space
        self.forbidden = forbidden
        self.condition = condition
        self.says = says
        self.sample(np.random.default_rng(0))  # an empty space is a mistake that is better said now

    @property
    def size(self) -> int:
        return self.space.size

    @property
    def cardinalities(self) -> tuple[int, ...]:
        return self.space.cardinalities

    @property
    def mutations(self) -> tuple[str, ...]:
        return self.space.mutations

    @property
    def description(self) -> dict[str, list[str]]:
        return {**self.space.description, "only": [self.says]}

    def options(self, prefix: Choices) -> Sequence[int]:
        return self.space.options(prefix)

    def decode(self, choices: Choices) -> Expression:
        return self._checked(self.space.decode(choices))

    def encode(self, expression: Expression) -> Choices:
        return self.space.encode(self._checked(expression))

    def enumerate(self) -> Iterator[Expression]:
        return filter(self.condition, self.space.enumerate())

    def sample(self, rng: np.random.Generator) -> Expression:
        for _ in range(100 * _TRIES):
            expression = self.space.sample(rng)
            if self.condition(expression):
                return expression
        raise ValueError(f"hardly any expression of this space meets the constraint: {self.says}")

    def mutate_as(self, kind: str, expression: Expression, rng: np.random.Generator) -> Expression:
        children = (self.space.mutate_as(kind, expression, rng) for _ in range(_TRIES))
        return next(filter(self.condition, children), expression)

    def crossover(self, a: Expression, b: Expression, rng: np.random.Generator) -> Expression:
        children = (self.space.crossover(a, b, rng) for _ in range(_TRIES))
        return next(filter(self.condition, children), a)

    def _checked(self, expression: Expression) -> Expression:
        if not self.condition(expression):
            raise ValueError(f"{expression} is not in this space: {self.says}")
        return expression


def constrain(
    space: SearchSpace,
    *,
    contains_x: bool = False,
    max_complexity: int | None = None,
    forbid: tuple[str, ...] = (),
    ready_made: bool = True,
) -> SearchSpace:
    """The space with the constraints that users may set; the space itself if there are none.

    Args:
        contains_x: keep only expressions in which x occurs.
        max_complexity: largest number of nodes.
        forbid: names of operators that may not occur.
        ready_made: False forbids the operators that are activation functions by themselves.
    """
    forbidden = {*forbid, *(name for name, row in OPERATORS.items() if row.ready_made and not ready_made)}
    check_operators(forbid)

    def condition(expression: Expression) -> bool:
        if max_complexity is not None and size(expression) > max_complexity:
            return False
        nodes = list(walk(expression))
        if contains_x and Var("x") not in nodes:
            return False
        return not any(isinstance(node, Call) and node.op in forbidden for node in nodes)

    says = [
        *(["contains x"] if contains_x else []),
        *([f"at most {max_complexity} nodes"] if max_complexity is not None else []),
        *([f"without {', '.join(sorted(forbidden))}"] if forbidden else []),
    ]
    return ConstrainedSpace(space, condition, "; ".join(says), frozenset(forbidden)) if says else space


def check_operators(names: Iterable[str]) -> None:
    """Raises ValueError for the first name that is no operator's."""
    for name in names:
        if name not in OPERATORS:
            raise ValueError(f"unknown operator {name!r}; {nearest(name, OPERATORS)}")


def check_mutation(kind: str, known: tuple[str, ...]) -> None:
    if kind not in known:
        raise ValueError(f"a mutation here is one of {', '.join(known)}; got {kind!r}")


def random_below(rng: np.random.Generator, n: int) -> int:
    """A uniform integer in [0, n), for n beyond 64 bits too."""
    bits = n.bit_length()
    while True:
        value = int.from_bytes(rng.bytes((bits + 7) // 8), "little") >> (-bits % 8)
        if value < n:
            return value
