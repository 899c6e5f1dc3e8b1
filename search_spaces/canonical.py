"""The rewrite table: simpler spellings of the same function.

Settles what is plain from the spelling (commutativity, identities, constants) before values decide, and prints winners
for people. Every rule keeps the function wherever it is finite.
"""

from __future__ import annotations

from search_spaces.compile import fold_constants
from search_spaces.expression import Call, Const, Expression, Param, call, size, transform
from search_spaces.operators import OPERATORS

_IDEMPOTENT = {"abs", "relu"}
_EVEN = {"abs", "square", "cos", "cosh", "sinc"}


def _rewrite(node: Expression) -> Expression:
    """One step of simplification at the root of a tree whose operands are simple already."""
    match node:
        case Call("neg", (Call("neg", (a,)),)):  # --a -> a
            return a
        case Call("add", (a, Const(0.0))) | Call("add", (Const(0.0), a)):  # a + 0 -> a
            return a
        case Call("sub", (a, Const(0.0))):  # a - 0 -> a
            return a
        case Call("mul", (a, Const(1.0))) | Call("mul", (Const(1.0), a)):  # a * 1 -> a
            return a
        case Call("div", (a, Const(1.0))):  # a / 1 -> a
            return a
        case Call("add", (a, Call("neg", (b,)))) | Call("add", (Call("neg", (b,)), a)):  # a + -b -> a - b
            return call("sub", a, b)
        case Call("sub", (a, Call("neg", (b,)))):  # a - -b -> a + b
            return call("add", a, b)
        case Call("mul", (Call("neg", (a,)), Call("neg", (b,)))):  # -a * -b -> a * b
            return call("mul", a, b)
        case Call("mul", (a, Call("neg", (b,)))):  # a * -b -> -a * b
            return call("mul", call("neg", a), b)
        case Call(op, (Call("neg", (a,)),)) if op in _EVEN:  # f(-a) -> f(a), f even
            return call(op, a)
        case Call(op, (Call(inner, (a,)),)) if op == inner and op in _IDEMPOTENT:  # f(f(a)) -> f(a)
            return call(op, a)
        case Call("square", (Call("abs", (a,)),)):  # |a|^2 -> a^2
            return call("square", a)
        case Call("max" | "min", (a, b)) if a == b:  # max(a, a) -> a
            return a
        case Call("add", (a, b)) if a == b:  # a + a -> 2 * a
            return call("mul", Const(2), a)
        case Call("mul", (a, b)) if a == b:  # a * a -> a^2
            return call("square", a)
        case Call(op, (a, b)) if OPERATORS[op].commutative and _order(op, b) < _order(op, a):  # b + a -> a + b
            return call(op, b, a)
    return node


def _order(op: str, node: Expression) -> tuple[int, int, str]:
    """Order of commuting operands: -a * b, 2 * beta * x, but max(x, 0); among the rest short before long."""
    rank = {Const: 1, Param: 2}.get(type(node), 3)
    if isinstance(node, Call) and node.op == "neg":
        rank = 0  # where the rule for a * -b puts it: two rules that disagree would not end
    text = str(node)
    return (rank if op == "mul" else -rank, len(text), text)


def simplify(expression: Expression) -> Expression:
    """A shorter spelling of the same function, for people to read. Never changes a finite value."""
    for _ in range(4 * size(expression)):  # far more than any chain of rewrites needs
        simpler = transform(fold_constants(expression), _rewrite)
        if simpler == expression:
            break
        expression = simpler
    return expression
