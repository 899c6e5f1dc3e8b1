"""Search spaces: sets of expressions that can be sampled, changed and enumerated.

A space is built from *templates*, which are expressions themselves: a unary template is a function of ``x`` (such as
``beta * x`` or ``log(abs(x) + 1e-5)``), a binary one of ``x1`` and ``x2``. What a strategy handles is the finished
expression; the space translates between an expression and its *choice vector*, the tuple of template numbers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from itertools import product
from math import prod

import numpy as np

from search_spaces.expression import Call, Expression, Param, Var, number_params, params, replace
from search_spaces.parser import parse

Choices = tuple[int, ...]


class SearchSpace(ABC):
    """A finite set of expressions with a fixed-length choice vector each."""

    @property
    @abstractmethod
    def cardinalities(self) -> tuple[int, ...]:
        """Number of options at every position of the choice vector."""

    @abstractmethod
    def decode(self, choices: Choices) -> Expression:
        """The expression of a choice vector."""

    @abstractmethod
    def encode(self, expression: Expression) -> Choices:
        """A choice vector of the expression. Raises ValueError if the space does not contain it."""

    @property
    def size(self) -> int:
        """Number of spellings (choice vectors); the number of different functions is smaller."""
        return prod(self.cardinalities)

    def contains(self, expression: Expression) -> bool:
        try:
            self.encode(expression)
        except ValueError:
            return False
        return True

    def enumerate(self) -> Iterator[Expression]:
        """All spellings, lazily, in the order of their choice vectors."""
        return map(self.decode, product(*map(range, self.cardinalities)))

    def sample(self, rng: np.random.Generator) -> Expression:
        """Uniform over spellings."""
        return self.decode(tuple(int(rng.integers(n)) for n in self.cardinalities))

    def mutate(self, expression: Expression, rng: np.random.Generator) -> Expression:
        """The same expression with one choice, picked uniformly, changed to another one."""
        choices = list(self.encode(expression))
        free = [i for i, n in enumerate(self.cardinalities) if n > 1]
        if not free:
            return expression
        position = free[int(rng.integers(len(free)))]
        step = int(rng.integers(1, self.cardinalities[position]))
        choices[position] = (choices[position] + step) % self.cardinalities[position]
        return self.decode(tuple(choices))

    def crossover(self, a: Expression, b: Expression, rng: np.random.Generator) -> Expression:
        """Uniform crossover: every choice comes from one of the parents."""
        pairs = zip(self.encode(a), self.encode(b), strict=True)
        return self.decode(tuple(pair[int(rng.integers(2))] for pair in pairs))


class CoreUnitSpace(SearchSpace):
    """Chained core units b(u1(x1), u2(x2)) of Ramachandran, Zoph and Le (2017), arXiv 1710.05941.

    In the first unit x1 = x2 = x; in every further one x1 is the output of the unit before and x2 = x. The choice
    vector holds (binary, u1, u2) of the first unit, then of the second, and so on. Every use of a template with
    learnable parameters has its own.
    """

    def __init__(self, unary: Sequence[str], binary: Sequence[str], units: int = 1) -> None:
        if units < 1:
            raise ValueError(f"a core-unit space has at least 1 unit, got {units}")
        self.unary = tuple(parse(text) for text in unary)
        self.binary = tuple(parse(text) for text in binary)
        self.units = units

    @property
    def cardinalities(self) -> tuple[int, ...]:
        return (len(self.binary), len(self.unary), len(self.unary)) * self.units

    def decode(self, choices: Choices) -> Expression:
        limits = self.cardinalities
        if len(choices) != len(limits) or not all(0 <= c < n for c, n in zip(choices, limits, strict=True)):
            raise ValueError(f"a choice vector has {len(limits)} numbers below {limits}, got {choices}")
        fresh = _FreshParams()
        value: Expression = Var("x")
        for unit in range(self.units):
            binary, first, second = choices[3 * unit : 3 * unit + 3]
            left = replace(fresh(self.unary[first]), {Var("x"): value})
            right = fresh(self.unary[second])
            value = replace(fresh(self.binary[binary]), {Var("x1"): left, Var("x2"): right})
        return number_params(value)

    def encode(self, expression: Expression) -> Choices:
        choices = next(self._encodings(expression, self.units), None)
        if choices is None:
            raise ValueError(f"{expression} is not in this space of {self.units} core unit(s)")
        return choices

    def _encodings(self, expression: Expression, units: int) -> Iterator[Choices]:
        """All choice vectors of an expression made of that many units."""
        if units == 0:
            if expression == Var("x"):
                yield ()
            return
        for number, template in enumerate(self.binary):
            bound = match(template, expression)
            if bound is None:
                continue
            # An input that the template does not use may be anything: the first choice stands for all of them.
            firsts = list(self._unary_matches(bound.get(Var("x1"))))
            seconds = [i for i, inner in self._unary_matches(bound.get(Var("x2"))) if inner in (Var("x"), None)]
            for (first, inner), second in product(firsts, seconds):
                befores = [(0,) * (3 * units - 3)] if inner is None else self._encodings(inner, units - 1)
                yield from ((*before, number, first, second) for before in befores)

    def _unary_matches(self, expression: Expression | None) -> Iterator[tuple[int, Expression | None]]:
        """Number and inner expression of every unary template that the expression is an instance of."""
        if expression is None:
            yield 0, None
            return
        for number, template in enumerate(self.unary):
            bound = match(template, expression)
            if bound is not None:
                yield number, bound.get(Var("x"))


class _FreshParams:
    """Gives the parameters of every template a name not used before in the same expression."""

    def __init__(self) -> None:
        self._used = 0

    def __call__(self, template: Expression) -> Expression:
        mapping: dict[Expression, Expression] = {}
        for name in params(template):
            self._used += 1
            mapping[Param(name)] = Param(f"gamma{self._used}")
        return replace(template, mapping)


def match(template: Expression, expression: Expression) -> dict[Expression, Expression] | None:
    """What the template's inputs and parameters stand for in the expression; None if it is not an instance of it."""
    bound: dict[Expression, Expression] = {}

    def matches(pattern: Expression, node: Expression) -> bool:
        if isinstance(pattern, Var) or (isinstance(pattern, Param) and isinstance(node, Param)):
            return bound.setdefault(pattern, node) == node
        if isinstance(pattern, Call) and isinstance(node, Call) and pattern.op == node.op:
            return all(matches(p, n) for p, n in zip(pattern.args, node.args, strict=True))
        return pattern == node

    return bound if matches(template, expression) else None
