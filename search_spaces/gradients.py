"""An expression with its slopes as straight-line text, from which kernels are made.

The text is neither C nor Triton, but what they have in common: arithmetic, comparisons, and calls of functions by the
operators' names, with ``where``, ``sign``, ``square``, ``larger`` and ``sinc_slope`` besides.
``nas/modules/activations`` defines them for each language. Slopes are found by reverse accumulation (Griewank and
Walther 2008, chapter 3): one pass from the result to the inputs gives all of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from search_spaces.compile import constant_values
from search_spaces.expression import Call, Expression, Param, Var, params, variables, walk
from search_spaces.operators import OPERATORS, Operator

_LARGEST = 3.4e38  # of float32


class NoKernel(ValueError):
    """An expression that kernels do not compute."""


@dataclass(frozen=True, slots=True)
class Program:
    """Statements, to be run in this order; inputs are ``x``, the parameters by name, and ``g``, the result's gradient.

    Attributes:
        params: names of the parameters.
        values: (name, text), from the inputs to the result.
        value: the result.
        gradients: (name, text), from the result back to the inputs.
        slopes: the gradient of x, then of each parameter.
    """

    params: tuple[str, ...]
    values: tuple[tuple[str, str], ...]
    value: str
    gradients: tuple[tuple[str, str], ...]
    slopes: tuple[str, ...]


def differentiate(expression: Expression) -> Program:
    """The program of a function of x.

    Raises:
        NoKernel: it has another input, a constant that float32 does not hold, or an operator without a kernel.
    """
    if others := set(variables(expression)) - {"x"}:
        raise NoKernel(f"kernels compute functions of x; {expression} has the input {', '.join(sorted(others))}")
    constants = constant_values(expression)
    names: dict[Expression, str] = {}
    values: list[tuple[str, str]] = []
    for node in dict.fromkeys(walk(expression)):
        match node:
            case _ if node in constants:
                names[node] = _number(constants[node])
            case Var(name) | Param(name):
                names[node] = name
            case Call(op, args):
                names[node] = f"v{len(values)}"
                values.append((names[node], _row(op).kernel.format(*(names[arg] for arg in args))))
    gradients, found = _backward(expression, names, constants)
    inputs = (Var("x"), *(Param(name) for name in params(expression)))
    slopes = tuple(" + ".join(found.get(node, ["0"])) for node in inputs)
    return Program(params(expression), tuple(values), names[expression], tuple(gradients), slopes)


def _backward(
    expression: Expression, names: dict[Expression, str], constants: dict[Expression, float]
) -> tuple[list[tuple[str, str]], dict[Expression, list[str]]]:
    """Statements, and the terms of which each node's gradient is the sum."""
    terms: dict[Expression, list[str]] = {expression: ["g"]}
    statements: list[tuple[str, str]] = []
    for node in reversed(dict.fromkeys(walk(expression))):
        if not isinstance(node, Call) or node in constants:
            continue
        gradient = f"g{len(statements)}"
        statements.append((gradient, " + ".join(terms[node])))
        for arg, template in zip(*_oriented(node, constants), strict=True):
            if arg not in constants:
                operands = [names[operand] for operand in _oriented(node, constants)[0]]
                terms.setdefault(arg, []).append(f"({template.format(*operands, y=names[node], g=gradient)})")
    return statements, terms


def _oriented(node: Call, constants: dict[Expression, float]) -> tuple[tuple[Expression, ...], tuple[str, ...]]:
    """The operands, the constant last where it matters, and their slopes."""
    row, args = _row(node.op), node.args
    assert row.slopes is not None
    if row.slope_const is None or not any(arg in constants for arg in args):
        return args, row.slopes
    return (args[::-1] if args[0] in constants else args), (row.slope_const, "0")


def _row(op: str) -> Operator:
    row = OPERATORS[op]
    if row.slopes is None:
        raise NoKernel(f"the operator {op} has no kernel")
    return row


def _number(value: float) -> str:
    if not math.isfinite(value) or abs(value) > _LARGEST:
        raise NoKernel(f"kernels compute in float32, which does not hold the constant {value}")
    return f"({value!r})" if repr(value).startswith("-") else repr(value)
