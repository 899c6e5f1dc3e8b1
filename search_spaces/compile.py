"""Expressions as functions and as ``nn.Module``.

:func:`plan` turns a tree into a short list of steps in which equal subexpressions appear once and constant ones are
numbers; :func:`evaluate` runs such a plan on tensors. :class:`ExpressionActivation` is the module that trials train.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin

from search_spaces.expression import Call, Const, Expression, Param, Var, params, variables, walk
from search_spaces.operators import OPERATORS, Operand

ParamShape = Literal["scalar", "channel"]


@dataclass(frozen=True, slots=True)
class Step:
    """One operator application: ``fn`` on earlier values (by index), on inputs (by name) or on constants."""

    fn: Callable[..., Tensor]
    args: tuple[int | str | float, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """A straight-line program; the result is the last step's, or ``leaf`` when there is no step."""

    steps: tuple[Step, ...]
    leaf: str | float | None


def constant_values(expression: Expression) -> dict[Expression, float]:
    """The float64 value, finite or not, of every subexpression that depends on no input and no parameter."""
    values: dict[Expression, float] = {}
    for node in walk(expression):
        match node:
            case Const(value):
                values[node] = value
            case Call(op, args) if all(arg in values for arg in args):
                operands = (torch.tensor(values[arg], dtype=torch.float64, device="cpu") for arg in args)
                values[node] = OPERATORS[op].torch(*operands).item()
    return values


def fold_constants(expression: Expression) -> Expression:
    """Replace constant subexpressions by their value where that is a finite number, which a ``Const`` must be."""
    values = constant_values(expression)

    def fold(node: Expression) -> Expression:
        value = values.get(node, math.nan)
        if math.isfinite(value) and (value or math.copysign(1.0, value) > 0):  # a Const is never -0.0
            return Const(value)
        return Call(node.op, tuple(map(fold, node.args))) if isinstance(node, Call) else node

    return fold(expression)


@lru_cache(maxsize=4096)
def plan(expression: Expression) -> Plan:
    """Compile an expression to a :class:`Plan`."""
    steps: list[Step] = []
    where: dict[Expression, int | str | float] = {**constant_values(expression)}
    for node in walk(expression):
        if node in where:
            continue
        match node:
            case Var(name) | Param(name):
                where[node] = name
            case Call(op, args):
                steps.append(Step(OPERATORS[op].torch, tuple(where[arg] for arg in args)))
                where[node] = len(steps) - 1
    last = where[expression]
    return Plan(tuple(steps), None if isinstance(last, int) else last)


def evaluate(program: Plan, inputs: Mapping[str, Tensor]) -> Tensor:
    """Run a plan. ``inputs`` gives the tensor of every variable and parameter; all must broadcast to the input's shape.

    Returns a tensor of the broadcast shape, also when the expression is a constant.
    """
    like = next(iter(inputs.values()))
    if not program.steps:
        leaf = program.leaf
        return inputs[leaf] if isinstance(leaf, str) else torch.full_like(like, leaf or 0.0)
    values: list[Tensor] = []
    for step in program.steps:
        operands: list[Operand] = []
        for arg in step.args:
            # bool-free isinstance order: an int is an index, a float a constant, a str an input
            operands.append(values[arg] if isinstance(arg, int) else inputs[arg] if isinstance(arg, str) else arg)
        values.append(step.fn(*operands))
    return values[-1]


def to_function(expression: Expression) -> Callable[..., Tensor]:
    """``f(x, **parameters)`` for an expression of one input ``x``: pointwise, any shape, any floating dtype."""
    program = plan(expression)

    def function(x: Tensor, **parameters: Tensor) -> Tensor:
        result = evaluate(program, {"x": x, **parameters})
        return result.expand_as(x) if result.shape != x.shape else result

    return function


def to_positional(expression: Expression, names: tuple[str, ...]) -> Callable[..., Tensor]:
    """The expression as a function of these inputs and parameters in this order, computed in float32 or wider.

    The first is an input: the result has its shape and dtype.
    """
    program = plan(expression)

    def function(*values: Tensor) -> Tensor:
        x = values[0]
        wide = torch.float64 if x.dtype == torch.float64 else torch.float32
        result = evaluate(program, {name: _as(value, wide) for name, value in zip(names, values, strict=True)})
        return _as(result if result.shape == x.shape else result.expand(x.shape), x.dtype)

    return function


def _as(value: Tensor, dtype: torch.dtype) -> Tensor:
    """The same tensor if it is of that type already: exported graphs then have no operator for it."""
    return value if value.dtype == dtype else value.to(dtype)


class ExpressionActivation(LazyModuleMixin, nn.Module):
    """An expression as a module: inputs and output ``(N, C, *)`` of any floating dtype.

    An activation has one input, x; a gate has two, x1 and x2. Narrower inputs than float32 are computed in float32 and
    the result is rounded once.

    Learnable parameters start at 1. With ``param_shape="channel"`` there is one value per channel (dimension 1 of the
    input, as in ``nn.PReLU``); their number is taken from the first input, so run one batch through a model before its
    parameters are handed to an optimiser. With ``"scalar"`` there is one value per module.

    Attributes:
        function: what is computed, from the inputs and the parameters in the order of ``param_names``. May be replaced
            by a faster one, such as itself compiled.

    Raises:
        ValueError: the inputs of the expression are neither x alone nor x1 and x2.
    """

    cls_to_become = None

    def __init__(self, expression: Expression, param_shape: ParamShape = "scalar") -> None:
        super().__init__()
        names = set(variables(expression))
        if not (names <= {"x"} or names <= {"x1", "x2"}):
            raise ValueError(
                f"an activation's only input is x, a gate's inputs are x1 and x2; got {', '.join(sorted(names))} "
                f"in {expression}"
            )
        self.expression = expression
        self.input_names = ("x",) if names <= {"x"} else ("x1", "x2")
        self.param_names = params(expression)
        self.function = to_positional(expression, (*self.input_names, *self.param_names))
        for name in self.param_names:
            scalar = param_shape == "scalar"
            setattr(self, name, nn.Parameter(torch.ones(())) if scalar else nn.UninitializedParameter())

    def initialize_parameters(self, x: Tensor, *others: Tensor) -> None:
        """Called once by the first forward pass: gives per-channel parameters their shape."""
        with torch.no_grad():
            for name in self.param_names:
                parameter = getattr(self, name)
                if isinstance(parameter, nn.UninitializedParameter):
                    parameter.materialize((x.shape[1],), device=x.device, dtype=torch.float32)
                    parameter.fill_(1.0)

    def forward(self, *inputs: Tensor) -> Tensor:
        if len(inputs) != len(self.input_names):
            raise ValueError(
                f"{self.expression} has {len(self.input_names)} input(s), {', '.join(self.input_names)}; the model "
                f"gives it {len(inputs)}: use a function of x in a place for one, of x1 and x2 in a place for two"
            )
        x = inputs[0]
        parameters = (getattr(self, name) for name in self.param_names)
        shaped = (p.view(-1, *[1] * (x.dim() - 2)) if p.dim() else p for p in parameters)
        return self.function(*inputs, *shaped)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "function"}  # a closure, or compiled code

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.function = to_positional(self.expression, (*self.input_names, *self.param_names))

    def extra_repr(self) -> str:
        return str(self.expression)
