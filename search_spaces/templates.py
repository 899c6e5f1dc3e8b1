"""Templates: expressions with inputs x, or x1, x2, x3, out of which a space builds its members.

A row of a space is a formula such as ``beta * x`` or ``x1 / (x2 + 1e-5)``, not an operator with hidden constants. The
bare name of an operator stands for it: ``tanh`` for ``tanh(x)``, ``mul`` for ``x1 * x2``.
"""

from __future__ import annotations

from collections.abc import Sequence

from search_spaces.expression import Call, Expression, Param, Var, call, format_number, variables
from search_spaces.operators import OPERATORS
from search_spaces.parser import ParseError, parse
from search_spaces.registry import nearest

INPUTS = {1: ("x",), 2: ("x1", "x2"), 3: ("x1", "x2", "x3")}


def read_templates(texts: Sequence[str | float], arity: int, what: str) -> tuple[Expression, ...]:
    """Parse the rows of a space. Raises ValueError with the row that is wrong."""
    templates = []
    for text in texts:
        name = text.strip() if isinstance(text, str) else format_number(float(text))
        try:
            template = _operator_template(name, arity) if name in OPERATORS else parse(name)
        except ParseError as error:
            hint = f"no such operator; {nearest(name, OPERATORS)}" if name.isidentifier() else error.message
            raise ValueError(f"{what} template {name[:60]!r}: {hint}") from error
        strangers = set(variables(template)) - set(INPUTS[arity])
        if strangers:
            inputs = ", ".join(INPUTS[arity])
            raise ValueError(f"{what} template {name!r}: its inputs are {inputs}; got {', '.join(sorted(strangers))}")
        if template in templates:
            raise ValueError(f"{what} template {name!r} is there twice; every row is another one")
        templates.append(template)
    return tuple(templates)


def _operator_template(name: str, arity: int) -> Expression:
    if OPERATORS[name].arity == arity:
        return call(name, *map(Var, INPUTS[arity]))
    if OPERATORS[name].arity == 2 and OPERATORS[name].commutative and arity == 3:  # add, mul, max, min of three
        return call(name, call(name, Var("x1"), Var("x2")), Var("x3"))
    raise ValueError(f"operator {name!r} takes {OPERATORS[name].arity} operand(s), a template here {arity}")


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
