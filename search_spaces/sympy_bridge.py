"""Expressions in sympy: for printing and for derivatives in closed form, never for search (it is far too slow)."""

from __future__ import annotations

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
