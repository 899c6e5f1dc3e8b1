"""The operator table: one record an operator, the single place that says what an operator is.

To add an operator, add one row. Everything else (parser, evaluation, sympy form, exported source) reads this table.

Conventions where mathematics leaves a choice:

- ``sqrt`` and ``log`` are NaN outside their domain, ``div`` follows IEEE (x/0 is infinite or NaN): such a candidate is
  recognised as non-finite and never trained. Spaces that want a guarded form spell it out, e.g. ``log(abs(x) + 1e-5)``.
- ``sinc`` is the unnormalised sin(x)/x, with sinc(0) = 1.
- ``max`` and ``min`` with a constant have the derivative of a clamp.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from math import pi
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Operand = Tensor | float


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator.

    Attributes:
        name: its name in the expression language, ``name(a, b)``.
        arity: number of operands, 1 or 2.
        torch: the function; operands are tensors, at most one of two may be a Python float.
        source: the same as torch source text, ``{0}`` and ``{1}`` being the operands: either infix or calls throughout.
        sympy: the same in sympy; receives the sympy module first, so that this table imports without sympy.
        symbol: infix or prefix symbol for printing, if it has one.
        commutative: whether the operands may be swapped.
        source_const: source text for a constant second operand, where it differs.
    """

    name: str
    arity: int
    torch: Callable[..., Tensor]
    source: str
    sympy: Callable[..., Any]
    symbol: str | None = None
    commutative: bool = False
    source_const: str | None = None


def _sinc(x: Tensor) -> Tensor:
    return torch.sinc(x / pi)


def _max(a: Operand, b: Operand) -> Tensor:
    if isinstance(a, Tensor):
        return torch.maximum(a, b) if isinstance(b, Tensor) else a.clamp(min=b)
    assert isinstance(b, Tensor)
    return b.clamp(min=a)


def _min(a: Operand, b: Operand) -> Tensor:
    if isinstance(a, Tensor):
        return torch.minimum(a, b) if isinstance(b, Tensor) else a.clamp(max=b)
    assert isinstance(b, Tensor)
    return b.clamp(max=a)


_ROWS = (
    # --- unary ---
    Operator("neg", 1, torch.neg, "-{0}", lambda sp, x: -x, symbol="-"),
    Operator("abs", 1, torch.abs, "torch.abs({0})", lambda sp, x: sp.Abs(x)),
    Operator("square", 1, torch.square, "torch.square({0})", lambda sp, x: x**2),
    Operator("cube", 1, lambda x: x * x * x, "torch.pow({0}, 3)", lambda sp, x: x**3),
    Operator("sqrt", 1, torch.sqrt, "torch.sqrt({0})", lambda sp, x: sp.sqrt(x)),
    Operator("exp", 1, torch.exp, "torch.exp({0})", lambda sp, x: sp.exp(x)),
    Operator("expm1", 1, torch.expm1, "torch.expm1({0})", lambda sp, x: sp.exp(x) - 1),
    Operator("log", 1, torch.log, "torch.log({0})", lambda sp, x: sp.log(x)),
    Operator("log1p", 1, torch.log1p, "torch.log1p({0})", lambda sp, x: sp.log(1 + x)),
    Operator("sin", 1, torch.sin, "torch.sin({0})", lambda sp, x: sp.sin(x)),
    Operator("cos", 1, torch.cos, "torch.cos({0})", lambda sp, x: sp.cos(x)),
    Operator("sinc", 1, _sinc, "torch.sinc(torch.div({0}, math.pi))", lambda sp, x: sp.sinc(x)),
    Operator("atan", 1, torch.atan, "torch.atan({0})", lambda sp, x: sp.atan(x)),
    Operator("sinh", 1, torch.sinh, "torch.sinh({0})", lambda sp, x: sp.sinh(x)),
    Operator("cosh", 1, torch.cosh, "torch.cosh({0})", lambda sp, x: sp.cosh(x)),
    Operator("tanh", 1, torch.tanh, "torch.tanh({0})", lambda sp, x: sp.tanh(x)),
    Operator("asinh", 1, torch.asinh, "torch.asinh({0})", lambda sp, x: sp.asinh(x)),
    Operator("erf", 1, torch.erf, "torch.erf({0})", lambda sp, x: sp.erf(x)),
    Operator("erfc", 1, torch.erfc, "torch.erfc({0})", lambda sp, x: sp.erfc(x)),
    Operator("sigmoid", 1, torch.sigmoid, "torch.sigmoid({0})", lambda sp, x: 1 / (1 + sp.exp(-x))),
    Operator("logsigmoid", 1, F.logsigmoid, "F.logsigmoid({0})", lambda sp, x: -sp.log(1 + sp.exp(-x))),
    Operator("softplus", 1, F.softplus, "F.softplus({0})", lambda sp, x: sp.log(1 + sp.exp(x))),
    Operator("softsign", 1, F.softsign, "F.softsign({0})", lambda sp, x: x / (1 + sp.Abs(x))),
    Operator("relu", 1, torch.relu, "torch.relu({0})", lambda sp, x: sp.Max(x, 0)),
    # --- binary ---
    Operator("add", 2, operator.add, "{0} + {1}", lambda sp, a, b: a + b, symbol="+", commutative=True),
    Operator("sub", 2, operator.sub, "{0} - {1}", lambda sp, a, b: a - b, symbol="-"),
    Operator("mul", 2, operator.mul, "{0} * {1}", lambda sp, a, b: a * b, symbol="*", commutative=True),
    Operator("div", 2, operator.truediv, "{0} / {1}", lambda sp, a, b: a / b, symbol="/"),
    Operator("pow", 2, torch.pow, "torch.pow({0}, {1})", lambda sp, a, b: a**b, symbol="**"),
    Operator(
        "max",
        2,
        _max,
        "torch.maximum({0}, {1})",
        lambda sp, a, b: sp.Max(a, b),
        commutative=True,
        source_const="torch.clamp({0}, min={1})",
    ),
    Operator(
        "min",
        2,
        _min,
        "torch.minimum({0}, {1})",
        lambda sp, a, b: sp.Min(a, b),
        commutative=True,
        source_const="torch.clamp({0}, max={1})",
    ),
)

OPERATORS = MappingProxyType({row.name: row for row in _ROWS})
"""All operators by name."""
