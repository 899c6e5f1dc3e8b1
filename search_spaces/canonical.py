"""When are two expressions the same function?

Decided by value: both are evaluated in float64 on a fixed grid and compared within a tolerance. That is exact enough
(different functions of a search space differ by far more than the tolerance) and about a thousand times faster than
symbolic simplification. :func:`simplify` is only for printing.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right, insort
from dataclasses import dataclass, field
from itertools import permutations

import numpy as np
import torch
from numpy.typing import NDArray

from search_spaces.compile import evaluate, fold_constants, plan
from search_spaces.expression import Call, Const, Expression, Param, call, params, size, transform
from search_spaces.operators import OPERATORS

Values = NDArray[np.float64]

_POINTS = 512
# Symmetric, uniform on [-5, 5] and without 0, where sinc, 1/x and the like are special.
GRID: Values = (np.arange(_POINTS) + 0.5) / _POINTS * 10.0 - 5.0
# Learnable parameters have no order, so a function of up to so many is compared under every assignment of values to
# them. With more, only in order of appearance: an equality may then go unnoticed, which costs a training, no more.
_MAX_PERMUTED = 4
RTOL = 1e-6
ATOL = 1e-9

# A cheap summary of a fingerprint by which candidates for equality are found: equal functions have summaries closer
# than _REACH, since arctan has slope <= 1 and the weights add up to 1.
_WEIGHTS: Values = np.random.default_rng(20171016).dirichlet(np.ones(_POINTS))
_REACH = 1e-5


def fingerprint(expression: Expression, order: tuple[int, ...] | None = None) -> Values:
    """Values of the function on the grid, shape (512,). ``order`` permutes the values given to the parameters."""
    names = params(expression)
    inputs = {"x": torch.from_numpy(GRID)}
    for name, index in zip(names, order or range(len(names)), strict=True):
        inputs[name] = torch.tensor(_param_value(index), dtype=torch.float64)
    values = evaluate(plan(expression), inputs).expand(_POINTS)
    return values.numpy().astype(np.float64, copy=True)


def _param_value(index: int) -> float:
    """Generic values in [0.5, 1.8): two families that agree at these agree everywhere."""
    return 0.5 + 1.3 * ((index + 1) * 0.6180339887498949 % 1.0)


def is_finite(values: Values) -> bool:
    """Whether the function is finite on the whole grid, [-5, 5]."""
    return bool(np.isfinite(values).all())


def is_affine(values: Values) -> bool:
    """Whether the values lie on a straight line (constants included): such a network has no non-linearity."""
    line = np.polynomial.polynomial.Polynomial.fit(GRID, values, 1)
    return bool(np.abs(line(GRID) - values).max() <= 1e-7 * max(1e-3, np.abs(values).max()))


def rejection(expression: Expression) -> str | None:
    """Why a candidate is not worth a training, judged from its values alone; None if it is."""
    values = fingerprint(expression)
    if not is_finite(values):
        return "not finite on [-5, 5]"
    return "affine or constant" if is_affine(values) else None


def same_values(a: Values, b: Values) -> bool:
    return bool(np.allclose(a, b, rtol=RTOL, atol=ATOL, equal_nan=True))


def _summary(values: Values) -> float:
    return float(_WEIGHTS @ np.arctan(np.nan_to_num(values, nan=12.5, posinf=1e300, neginf=-1e300)))


@dataclass
class EquivalenceIndex:
    """Finds out to which known function an expression is equal. Keys are short strings fit for a database."""

    _summaries: list[tuple[float, str]] = field(default_factory=list)
    _values: dict[str, Values] = field(default_factory=dict)

    def find(self, expression: Expression) -> str | None:
        """The key of the function this expression is equal to, None if no such function was added."""
        count = len(params(expression))
        for order in permutations(range(count)) if count <= _MAX_PERMUTED else [None]:
            key = self._find(fingerprint(expression, order))
            if key is not None:
                return key
        return None

    def add(self, expression: Expression) -> str:
        """The key of this function, which is added when it is new."""
        key = self.find(expression)
        if key is None:
            values = fingerprint(expression)
            key = hashlib.sha256(np.array2string(values, precision=9, threshold=_POINTS).encode()).hexdigest()[:12]
            self._values[key] = values
            insort(self._summaries, (_summary(values), key))
        return key

    def _find(self, values: Values) -> str | None:
        summary = _summary(values)
        low = bisect_left(self._summaries, (summary - _REACH, ""))
        high = bisect_right(self._summaries, (summary + _REACH, "~"))
        for _, key in self._summaries[low:high]:
            if same_values(values, self._values[key]):
                return key
        return None


# --- simpler spelling ------------------------------------------------------------------------------------------------

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
