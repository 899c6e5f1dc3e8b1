"""Expressions: what a candidate activation function *is*.

Four frozen node types form a tree: ``Var`` (the input), ``Const`` (a number), ``Param`` (a learnable number) and
``Call`` (an operator of :mod:`search_spaces.operators` on expressions). ``str(expression)`` prints the expression
language that :func:`search_spaces.parser.parse` reads; ``parse(str(e)) == e`` for every expression within the parser's
limits.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from search_spaces.operators import OPERATORS

VARIABLES = ("x", "x1", "x2", "x3")
PARAM_NAME = re.compile(r"(alpha|beta|gamma|delta)[0-9]{0,3}", re.ASCII)


class Expression:
    """Base of the four node types."""

    __slots__ = ()

    def __str__(self) -> str:
        return _print(self)[0]


@dataclass(frozen=True, slots=True)
class Var(Expression):
    """an input: ``x``, or ``x1`` to ``x3`` for functions of several inputs."""

    name: str = "x"

    def __post_init__(self) -> None:
        if self.name not in VARIABLES:
            raise ValueError(f"a variable is one of {', '.join(VARIABLES)}, got {self.name!r}")

    __str__ = Expression.__str__


@dataclass(frozen=True, slots=True)
class Const(Expression):
    """A finite number."""

    value: float

    def __post_init__(self) -> None:
        value = float(self.value) + 0.0  # + 0.0 turns -0.0 into 0.0, which prints the same both ways
        if not math.isfinite(value):
            raise ValueError(f"a constant is a finite number, got {self.value!r}")
        object.__setattr__(self, "value", value)

    __str__ = Expression.__str__


@dataclass(frozen=True, slots=True)
class Param(Expression):
    """A learnable parameter. The same name means the same parameter; its initial value is 1."""

    name: str = "beta"

    def __post_init__(self) -> None:
        if not PARAM_NAME.fullmatch(self.name):
            raise ValueError(f"a parameter is alpha, beta, gamma or delta, optionally numbered; got {self.name!r}")

    __str__ = Expression.__str__


@dataclass(frozen=True, slots=True)
class Call(Expression):
    """An operator applied to as many operands as its arity says."""

    op: str
    args: tuple[Expression, ...]

    def __post_init__(self) -> None:
        if self.op not in OPERATORS:
            raise ValueError(f"unknown operator {self.op!r}")
        if len(self.args) != OPERATORS[self.op].arity:
            raise ValueError(f"{self.op} takes {OPERATORS[self.op].arity} operand(s), got {len(self.args)}")

    __str__ = Expression.__str__


def call(op: str, *args: Expression) -> Call:
    return Call(op, args)


def walk(expression: Expression) -> Iterator[Expression]:
    """All nodes, operands before the operators that use them, left to right."""
    if isinstance(expression, Call):
        for arg in expression.args:
            yield from walk(arg)
    yield expression


def size(expression: Expression) -> int:
    """Number of nodes: the *complexity* of a candidate."""
    return sum(1 for _ in walk(expression))


def depth(expression: Expression) -> int:
    """Number of nodes on the longest path from the root to a leaf (without recursion: it guards what recurses)."""
    deepest, pending = 0, [(expression, 1)]
    while pending:
        node, level = pending.pop()
        deepest = max(deepest, level)
        if isinstance(node, Call):
            pending.extend((arg, level + 1) for arg in node.args)
    return deepest


def params(expression: Expression) -> tuple[str, ...]:
    """Names of the learnable parameters in order of first appearance."""
    return tuple(dict.fromkeys(node.name for node in walk(expression) if isinstance(node, Param)))


def variables(expression: Expression) -> tuple[str, ...]:
    """Names of the inputs in order of first appearance."""
    return tuple(dict.fromkeys(node.name for node in walk(expression) if isinstance(node, Var)))


def transform(expression: Expression, fn: Callable[[Expression], Expression]) -> Expression:
    """Rebuild bottom-up: every node is replaced by ``fn(node with transformed operands)``."""
    if isinstance(expression, Call):
        expression = Call(expression.op, tuple(transform(arg, fn) for arg in expression.args))
    return fn(expression)


def replace(expression: Expression, mapping: Mapping[Expression, Expression]) -> Expression:
    """Replace leaves (or whole subtrees) by other expressions; a replacement is not searched again."""
    if expression in mapping:
        return mapping[expression]
    if isinstance(expression, Call):
        return Call(expression.op, tuple(replace(arg, mapping) for arg in expression.args))
    return expression


def number_params(expression: Expression) -> Expression:
    """Rename parameters to beta, beta2, beta3 ... in order of first appearance."""
    names = params(expression)
    return replace(expression, {Param(n): Param("beta" if i == 0 else f"beta{i + 1}") for i, n in enumerate(names)})


def tokens(expression: Expression) -> tuple[str, ...]:
    """The tree as a sequence: every operator before its operands (Polish notation), without brackets."""
    if isinstance(expression, Call):
        return (expression.op, *(token for arg in expression.args for token in tokens(arg)))
    return (str(expression),)


def from_tokens(sequence: Sequence[str]) -> Expression:
    """The expression of a token sequence. Raises ValueError if it is not exactly one expression."""
    stack: list[Expression] = []
    for token in reversed(sequence):
        if token in OPERATORS:
            arity = OPERATORS[token].arity
            if len(stack) < arity:
                raise ValueError(f"operator {token} lacks operands in {' '.join(sequence)!r}")
            stack.append(Call(token, tuple(stack.pop() for _ in range(arity))))
        else:
            stack.append(_leaf(token))
    if len(stack) != 1:
        raise ValueError(f"a token sequence is one expression, got {len(stack)} in {' '.join(sequence)!r}")
    return stack[0]


def _leaf(token: str) -> Expression:
    if token in VARIABLES:
        return Var(token)
    return Param(token) if PARAM_NAME.fullmatch(token) else Const(float(token))


# --- printing --------------------------------------------------------------------------------------------------------

_SUM, _PRODUCT, _UNARY, _POWER, _ATOM = range(5)
_PRECEDENCE = {"add": _SUM, "sub": _SUM, "mul": _PRODUCT, "div": _PRODUCT}


def format_number(value: float) -> str:
    """Shortest text that reads back as the same number; whole numbers without a decimal point."""
    return str(int(value)) if value.is_integer() and abs(value) < 1e16 else repr(value)


def _print(expression: Expression) -> tuple[str, int]:
    """Text and the precedence of its outermost operator."""
    match expression:
        case Var(name) | Param(name):
            return name, _ATOM
        case Const(value):
            return format_number(value), _ATOM if value >= 0 else _UNARY
        case Call("neg", (arg,)) if not isinstance(arg, Const):  # "-2" is the constant; its negation prints as a call
            return f"-{_operand(arg, _UNARY)}", _UNARY
        case Call("square", (arg,)):
            return f"{_operand(arg, _ATOM)} ** 2", _POWER
        case Call("cube", (arg,)):
            return f"{_operand(arg, _ATOM)} ** 3", _POWER
        case Call("pow", (base, exponent)) if exponent not in (Const(2), Const(3)):
            return f"{_operand(base, _ATOM)} ** {_operand(exponent, _UNARY)}", _POWER
        case Call(op, (left, right)) if op in _PRECEDENCE:
            level = _PRECEDENCE[op]
            return f"{_operand(left, level)} {OPERATORS[op].symbol} {_operand(right, level + 1)}", level
        case Call(op, args):
            return f"{op}({', '.join(_print(arg)[0] for arg in args)})", _ATOM
    raise TypeError(f"not an expression: {expression!r}")


def _operand(expression: Expression, at_least: int) -> str:
    text, precedence = _print(expression)
    return text if precedence >= at_least else f"({text})"
