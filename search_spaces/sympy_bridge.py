"""Expressions in sympy: for printing and for derivatives in closed form, never for search (it is far too slow)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sympy

from search_spaces.expression import Call, Const, Expression, Param, Var
from search_spaces.operators import OPERATORS


def to_sympy(expression: Expression) -> Any:
    """The sympy expression in real symbols named like the inputs and parameters."""
    match expression:
        case Var(name) | Param(name):
            return sympy.Symbol(name, real=True)
        case Const(value):
            return sympy.Integer(int(value)) if value.is_integer() else sympy.Float(value)
        case Call(op, args):
            return OPERATORS[op].sympy(sympy, *(to_sympy(arg) for arg in args))
    raise TypeError(f"not an expression: {expression!r}")


def latex(expression: Expression) -> str:
    """LaTeX of the formula as it is spelled, or as sympy orders it where sympy cannot print it unevaluated."""
    try:
        with sympy.evaluate(False):
            return str(sympy.latex(to_sympy(expression)))
    except RecursionError:  # sympy 1.14 on exp(-f(x)**2) within sigmoid
        return str(sympy.latex(to_sympy(expression)))


def derivative(expression: Expression) -> Any:
    """df/dx as a sympy expression, for an expression of the single input x."""
    return sympy.diff(to_sympy(expression), sympy.Symbol("x", real=True))


def limits(expression: Expression) -> Iterator[tuple[str, float]]:
    """Limits of f, of f/x and of f - a x at -inf and +inf, as pairs such as ("limit-1", 0.0), ("slope+1", 1.0).

    What sympy cannot find, or finds not to be a real number or an infinity, is left out. May take for ever.
    """
    x = sympy.Symbol("x", real=True)
    form = to_sympy(expression)
    for sign, end in (("-1", -sympy.oo), ("+1", sympy.oo)):
        slope = None
        for name, target in (("limit", form), ("slope", form / x), ("offset", None)):
            if name == "offset":
                if slope is None or not slope.is_finite:
                    continue
                target = form - slope * x
            value = _limit(target, x, end)
            if name == "slope":
                slope = value
            if value is not None:
                yield f"{name}{sign}", float(value)


def _limit(form: Any, x: Any, end: Any) -> Any:
    try:
        value = sympy.limit(form, x, end)
        if value.is_extended_real and value.is_number and not value.has(sympy.AccumBounds):
            float(value)
            return value
    except Exception:  # sympy raises all kinds of things for limits that it cannot do
        return None
    return None
