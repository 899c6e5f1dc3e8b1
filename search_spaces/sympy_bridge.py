"""Expressions in sympy: for printing, derivatives in closed form and limits, never for search (it is far too slow).

sympy may compute for ever, or huge numbers, or raise anything: :func:`ask` has another process do it, within a time.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from typing import Any

import sympy

from search_spaces.compile import fold_constants
from search_spaces.expression import Call, Const, Expression, Param, Var
from search_spaces.operators import OPERATORS


def to_sympy(expression: Expression) -> Any:
    """The sympy expression in real symbols named like the inputs and parameters."""
    match expression:
        case Var(name) | Param(name):
            return sympy.Symbol(name, real=True)
        case Const(value):
            return sympy.Integer(int(value)) if value.is_integer() and abs(value) < 1e6 else sympy.Float(value)
        case Call(op, args):
            return OPERATORS[op].sympy(sympy, *(to_sympy(arg) for arg in args))
    raise TypeError(f"not an expression: {expression!r}")


def latex(expression: Expression) -> str:
    """LaTeX of the formula as it is spelled, or as sympy orders it where sympy cannot print it unevaluated."""
    try:
        with sympy.evaluate(False):
            return str(sympy.latex(to_sympy(expression)))
    except Exception:  # sympy 1.14: RecursionError on exp(-f(x)**2) within sigmoid, AttributeError on exp(-exp(x))
        return str(sympy.latex(to_sympy(expression)))


def derivative(expression: Expression) -> Any:
    """df/dx as a sympy expression, for an expression of the single input x."""
    return sympy.diff(to_sympy(expression), sympy.Symbol("x", real=True))


def ask(question: str, expression: Expression, seconds: float) -> dict[str, Any]:
    """What sympy answers to one of :data:`QUESTIONS`, as far as it gets; every part of the answer has ``seconds``."""
    if seconds <= 0:
        return {}
    receiver, sender = _CONTEXT.Pipe(duplex=False)
    process = _CONTEXT.Process(target=_answer, args=(question, expression, sender), daemon=True)
    process.start()
    sender.close()
    found: dict[str, Any] = {}
    try:
        while receiver.poll(seconds):
            name, value = receiver.recv()
            found[name] = value
    except EOFError:
        pass
    finally:
        process.kill()
        process.join()
        receiver.close()
    return found


_CONTEXT: Any = multiprocessing.get_context("fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn")
_LONGEST = 2_000  # characters that somebody might read


def _answer(question: str, expression: Expression, sender: Any) -> None:
    for name, value in QUESTIONS[question](fold_constants(expression)):
        sender.send((name, value))
    sender.close()


def forms(expression: Expression) -> Iterator[tuple[str, str]]:
    """The formula in LaTeX and its derivative as text, where sympy can and they are short enough to read."""
    for name, make in (("latex", latex), ("derivative", lambda e: str(derivative(e)))):
        try:
            text = make(expression)
        except Exception:  # sympy raises all kinds of things
            continue
        yield name, text if len(text) <= _LONGEST else f"too long to print ({len(text):,} characters)"


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


QUESTIONS: dict[str, Callable[[Expression], Iterator[tuple[str, Any]]]] = {"forms": forms, "limits": limits}
"""What :func:`ask` can be asked."""
