"""Expression to torch source text: readable statements that need ``torch``, ``F`` and ``math`` and nothing of ours."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from search_spaces.compile import constant_values
from search_spaces.expression import Call, Expression, Param, Var, format_number, walk
from search_spaces.operators import OPERATORS

_INFIX = {"add", "sub", "mul", "div", "neg"}


@dataclass(frozen=True, slots=True)
class Source:
    """``statements`` to run in order, then ``result`` is the value. Inputs and parameters go by their own names."""

    statements: tuple[str, ...]
    result: str


def to_source(expression: Expression) -> Source:
    """Torch source for an expression. A subexpression that occurs more than once becomes a statement of its own."""
    constants = constant_values(expression)
    count = Counter(node for node in walk(expression) if node not in constants)
    names: dict[Expression, str] = {}
    statements: list[str] = []

    def operand(node: Expression, parent: str) -> str:
        text = render(node)
        infix = isinstance(node, Call) and node.op in _INFIX and node not in names and node not in constants
        return f"({text})" if parent in _INFIX and (infix or text.startswith("-")) else text

    def render(node: Expression) -> str:
        if node in names:
            return names[node]
        if node in constants:
            return _number(constants[node])
        match node:
            case Var(name) | Param(name):
                return name
            case Call(op, args):
                row = OPERATORS[op]
                if row.source_const and row.commutative and args[0] in constants:
                    args = args[::-1]  # max(0, x): the constant goes second
                constant = row.source_const and args[-1] in constants
                template = row.source_const if constant else row.source
                assert template is not None
                text = template.format(*(operand(arg, op) for arg in args))
                if count[node] > 1:
                    names[node] = f"t{len(names) + 1}"
                    statements.append(f"{names[node]} = {text}")
                    return names[node]
                return text
        raise TypeError(f"not an expression: {node!r}")

    result = render(expression)
    return Source(tuple(statements), result)


def _number(value: float) -> str:
    if not math.isfinite(value):
        return f"float('{value}')"
    return format_number(value) if value else repr(value)  # the sign of -0.0 matters to a division
