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

_MAX = 3.38e38  # just below bfloat16's and float32's largest number
_TINY = 1e-37  # just above their smallest normal number
SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805  # Klambauer et al. 2017 (arXiv 1706.02515), eq. 14
_EXP = 88.0  # exp(88.8) overflows


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
        domain: for a unary operator, the closed interval on which value and derivative are finite, in float32 and in
            bfloat16 alike.
        ready_made: an activation function by itself. A space may leave these out, so that a search has to find them.
        slopes: what each operand's gradient is, as text of kernels (:mod:`search_spaces.gradients`), ``{y}`` being the
            result and ``{g}`` its gradient. Where autograd takes a side at a kink, it is the same. None: no kernel.
        slope_const: the same for the first operand if the second is constant, where it differs.
    """

    name: str
    arity: int
    torch: Callable[..., Tensor]
    source: str
    sympy: Callable[..., Any]
    symbol: str | None = None
    commutative: bool = False
    source_const: str | None = None
    domain: tuple[float, float] = (-_MAX, _MAX)
    ready_made: bool = False
    slopes: tuple[str, ...] | None = None
    slope_const: str | None = None

    @property
    def kernel(self) -> str:
        """Source text in kernels: infix as in torch, else a function that goes by the operator's name."""
        if "(" not in self.source:
            return self.source
        return f"{self.name}({', '.join(f'{{{i}}}' for i in range(self.arity))})"


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


def _i1e(x: Tensor) -> Tensor:
    if x.dtype == torch.bfloat16:  # of which torch has a derivative from 2.15 on
        return torch.special.i1e(x.float()).to(x.dtype)
    return torch.special.i1e(x)


def _hard_sigmoid(x: Tensor) -> Tensor:
    return (0.2 * x + 0.5).clamp(0, 1)


def _sympy_selu(sp: Any, x: Any) -> Any:
    return SELU_SCALE * (sp.Max(x, 0) + SELU_ALPHA * (sp.exp(sp.Min(x, 0)) - 1))


# fmt: off
_ROWS = (
    # --- unary ---
    Operator("neg", 1, torch.neg, "-{0}", lambda sp, x: -x, symbol="-", slopes=("-{g}",)),
    Operator("abs", 1, torch.abs, "torch.abs({0})", lambda sp, x: sp.Abs(x), slopes=("{g} * sign({0})",)),
    Operator("square", 1, torch.square, "torch.square({0})", lambda sp, x: x**2, domain=(-1.8e19, 1.8e19),
             slopes=("{g} * 2 * {0}",)),
    Operator("cube", 1, lambda x: x * x * x, "torch.pow({0}, 3)", lambda sp, x: x**3, domain=(-6.9e12, 6.9e12),
             slopes=("{g} * 3 * {0} * {0}",)),
    Operator("sqrt", 1, torch.sqrt, "torch.sqrt({0})", lambda sp, x: sp.sqrt(x), domain=(_TINY, _MAX),
             slopes=("{g} / (2 * {y})",)),
    Operator("exp", 1, torch.exp, "torch.exp({0})", lambda sp, x: sp.exp(x), domain=(-_MAX, _EXP),
             slopes=("{g} * {y}",)),
    Operator("expm1", 1, torch.expm1, "torch.expm1({0})", lambda sp, x: sp.exp(x) - 1, domain=(-_MAX, _EXP),
             slopes=("{g} * ({y} + 1)",)),
    Operator("log", 1, torch.log, "torch.log({0})", lambda sp, x: sp.log(x), domain=(_TINY, _MAX),
             slopes=("{g} / {0}",)),
    Operator("log1p", 1, torch.log1p, "torch.log1p({0})", lambda sp, x: sp.log(1 + x), domain=(-0.99, _MAX),
             slopes=("{g} / (1 + {0})",)),
    Operator("sin", 1, torch.sin, "torch.sin({0})", lambda sp, x: sp.sin(x), slopes=("{g} * cos({0})",)),
    Operator("cos", 1, torch.cos, "torch.cos({0})", lambda sp, x: sp.cos(x), slopes=("-{g} * sin({0})",)),
    Operator("sinc", 1, _sinc, "torch.sinc(torch.div({0}, math.pi))", lambda sp, x: sp.sinc(x),
             slopes=("{g} * sinc_slope({0})",)),
    Operator("atan", 1, torch.atan, "torch.atan({0})", lambda sp, x: sp.atan(x), slopes=("{g} / (1 + {0} * {0})",)),
    Operator("sinh", 1, torch.sinh, "torch.sinh({0})", lambda sp, x: sp.sinh(x), domain=(-_EXP, _EXP),
             slopes=("{g} * cosh({0})",)),
    Operator("cosh", 1, torch.cosh, "torch.cosh({0})", lambda sp, x: sp.cosh(x), domain=(-_EXP, _EXP),
             slopes=("{g} * sinh({0})",)),
    Operator("tanh", 1, torch.tanh, "torch.tanh({0})", lambda sp, x: sp.tanh(x), slopes=("{g} * (1 - {y} * {y})",)),
    Operator("asinh", 1, torch.asinh, "torch.asinh({0})", lambda sp, x: sp.asinh(x),
             slopes=("{g} / sqrt(1 + {0} * {0})",)),
    Operator("erf", 1, torch.erf, "torch.erf({0})", lambda sp, x: sp.erf(x),
             slopes=("{g} * (1.1283791670955126 * exp(-{0} * {0}))",)),
    Operator("erfc", 1, torch.erfc, "torch.erfc({0})", lambda sp, x: sp.erfc(x),
             slopes=("-{g} * (1.1283791670955126 * exp(-{0} * {0}))",)),
    Operator("sigmoid", 1, torch.sigmoid, "torch.sigmoid({0})", lambda sp, x: 1 / (1 + sp.exp(-x)),
             slopes=("{g} * ({y} * (1 - {y}))",)),
    Operator("logsigmoid", 1, F.logsigmoid, "F.logsigmoid({0})", lambda sp, x: -sp.log(1 + sp.exp(-x)), ready_made=True,
             slopes=("{g} * sigmoid(-{0})",)),
    Operator("softplus", 1, F.softplus, "F.softplus({0})", lambda sp, x: sp.log(1 + sp.exp(x)), ready_made=True,
             slopes=("{g} * sigmoid({0})",)),
    Operator("softsign", 1, F.softsign, "F.softsign({0})", lambda sp, x: x / (1 + sp.Abs(x)), ready_made=True,
             slopes=("{g} * square(1 / (1 + abs({0})))",)),
    Operator("relu", 1, torch.relu, "torch.relu({0})", lambda sp, x: sp.Max(x, 0), ready_made=True,
             slopes=("where({0} > 0, {g}, 0)",)),
    Operator("elu", 1, F.elu, "F.elu({0})", lambda sp, x: sp.Max(x, 0) + sp.exp(sp.Min(x, 0)) - 1, ready_made=True,
             slopes=("{g} * where({0} > 0, 1, exp({0}))",)),
    Operator("selu", 1, F.selu, "F.selu({0})", _sympy_selu, domain=(-_MAX, 3.2e38), ready_made=True,
             slopes=("{g} * where({0} > 0, 1.0507009873554805, 1.7580993408473766 * exp({0}))",)),
    Operator("silu", 1, F.silu, "F.silu({0})", lambda sp, x: x / (1 + sp.exp(-x)), ready_made=True,
             slopes=("{g} * (sigmoid({0}) * (1 + {0} * (1 - sigmoid({0}))))",)),
    Operator("hard_sigmoid", 1, _hard_sigmoid, "torch.clamp(0.2 * ({0}) + 0.5, 0, 1)",
             lambda sp, x: sp.Max(0, sp.Min(1, x / 5 + sp.Rational(1, 2))), ready_made=True,
             slopes=("where(abs(0.2 * {0}) < 0.5, 0.2 * {g}, 0)",)),
    Operator("i0e", 1, torch.special.i0e, "torch.special.i0e({0})",
             lambda sp, x: sp.exp(-sp.Abs(x)) * sp.besseli(0, x)),
    Operator("i1e", 1, _i1e, "torch.special.i1e({0})",
             lambda sp, x: sp.exp(-sp.Abs(x)) * sp.besseli(1, x)),
    # --- binary ---
    Operator("add", 2, operator.add, "{0} + {1}", lambda sp, a, b: a + b, symbol="+", commutative=True,
             slopes=("{g}", "{g}")),
    Operator("sub", 2, operator.sub, "{0} - {1}", lambda sp, a, b: a - b, symbol="-", slopes=("{g}", "-{g}")),
    Operator("mul", 2, operator.mul, "{0} * {1}", lambda sp, a, b: a * b, symbol="*", commutative=True,
             slopes=("{g} * {1}", "{g} * {0}")),
    Operator("div", 2, operator.truediv, "{0} / {1}", lambda sp, a, b: a / b, symbol="/",
             slopes=("{g} / {1}", "-{g} * {y} / {1}")),
    Operator("pow", 2, torch.pow, "torch.pow({0}, {1})", lambda sp, a, b: a**b, symbol="**",
             slopes=("where({1} == 0, 0, {g} * {1} * pow({0}, {1} - 1))",
                     "where(({0} == 0) & ({1} >= 0), 0, {g} * {y} * log({0}))")),
    Operator("max", 2, _max, "torch.maximum({0}, {1})", lambda sp, a, b: sp.Max(a, b), commutative=True,
             source_const="torch.clamp({0}, min={1})",
             slopes=("larger({0}, {1}, {g})", "larger({1}, {0}, {g})"), slope_const="where({0} > {1}, {g}, 0)"),
    Operator("min", 2, _min, "torch.minimum({0}, {1})", lambda sp, a, b: sp.Min(a, b), commutative=True,
             source_const="torch.clamp({0}, max={1})",
             slopes=("larger({1}, {0}, {g})", "larger({0}, {1}, {g})"), slope_const="where({0} < {1}, {g}, 0)"),
)
# fmt: on

OPERATORS = MappingProxyType({row.name: row for row in _ROWS})
"""All operators by name."""
