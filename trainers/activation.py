"""From a trial's expression to the activation modules of its model: which way of computing it is fastest here.

- ``table``: bfloat16 inputs and scalar parameters at most, :class:`nas.modules.activations.TableActivation`; the same
  cost for every expression.
- ``kernel``: other functions of x on a CPU, where the training is long enough to pay for a kernel generated for them.
- ``compiled``: everything else, where it is long enough to pay for torch.compile.
- ``eager``: the rest.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from nas.modules.activations import TableActivation
from nas.modules.activations.pointwise import kernel_for, with_parameters
from search_spaces.compile import ExpressionActivation, ParamShape, to_function
from search_spaces.expression import Expression, params, variables
from search_spaces.pointwise import formula_of
from trainers.models import ActFactory

_LOG = logging.getLogger(__name__)

KERNEL_FROM = 2e8
"""Activation values of a training from which a generated kernel pays. It costs 0.2 s a candidate the first time and
saves 1 to 24 ns a value (ResNet-8 in float32, one core of an AMD EPYC)."""

COMPILE_FROM = 3e9
"""Activation values of a training from which compiling pays. It costs 1 to 4 s a candidate and saves 1 to 19 ns a value
(ResNet-8, two cores of an AMD EPYC), so it breaks even between 1e8 and 3e9; and most trainings are stopped early."""


def uses_table(expression: Expression, param_shape: str, precision: str) -> bool:
    """Whether this expression is computed by table: it depends on bfloat16 inputs and scalars alone."""
    one_input = set(variables(expression)) <= {"x"}
    return precision == "bf16" and one_input and (param_shape == "scalar" or not params(expression))


def make_act(expression: Expression, param_shape: str, precision: str) -> ActFactory:
    """The activation factory of a trial; :func:`fuse_where_it_pays` may change its modules afterwards."""
    if uses_table(expression, param_shape, precision):
        function = to_function(expression)
        return lambda: TableActivation(function, dict.fromkeys(params(expression), 1.0))
    shape: ParamShape = "channel" if param_shape == "channel" else "scalar"
    return lambda: ExpressionActivation(expression, shape)


def fuse_where_it_pays(model: nn.Module, example: Tensor, steps: int) -> str:
    """Make one operation of the activations of a model if its training is long enough.

    Args:
        model: with all its parameters materialised.
        example: an input of as many examples as a step has.
        steps: of the training.

    Returns:
        How the activations are computed: ``table``, ``kernel``, ``compiled`` or ``eager``.
    """
    sites = [module for module in model.modules() if isinstance(module, ExpressionActivation)]
    if not sites:
        return "table" if any(isinstance(module, TableActivation) for module in model.modules()) else "eager"
    values = steps * _values_per_step(model, example, sites)
    if values >= KERNEL_FROM and (kernel := _kernel(sites[0].expression, example.device)):
        way, function = "kernel", kernel
    elif values >= COMPILE_FROM and _compiler_works(example.device.type):
        torch.compiler.reset()  # forgets the code of earlier candidates, of which there may be thousands
        way, function = "compiled", torch.compile(sites[0].function, dynamic=True)
    else:
        return "eager"
    for site in sites:
        site.function = function
    return way


def _kernel(expression: Expression, device: torch.device) -> Callable[..., Tensor] | None:
    """The expression by a generated kernel, of the same inputs as its module's function; None if there is none."""
    if device.type != "cpu" or set(variables(expression)) != {"x"}:
        return None
    formula = formula_of(expression)
    if kernel_for(formula, device.type, torch.float32) is None:
        return None
    return lambda x, *parameters: with_parameters(x, formula, [p.flatten() if p.dim() else p for p in parameters])


def _values_per_step(model: nn.Module, example: Tensor, sites: list[Any]) -> int:
    """How many activation values a step on this input computes, found with a single example."""
    count = 0

    def add(module: nn.Module, inputs: Any, output: Tensor) -> None:
        nonlocal count
        count += output.numel()

    hooks = [site.register_forward_hook(add) for site in sites]
    training = model.training
    with torch.no_grad():
        model.eval()(example[:1])
    model.train(training)
    for hook in hooks:
        hook.remove()
    return count * len(example)


@cache
def _compiler_works(device: str) -> bool:
    """Whether torch.compile can be used here; said once if it cannot."""
    function: Callable[[Tensor], Tensor] = torch.compile(lambda x: x.tanh() * x, dynamic=True)
    try:
        function(torch.ones(8, 4, device=device))
    except Exception as error:  # a compiler can fail in any way
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        _LOG.warning("activations without a table are computed operator by operator: torch.compile fails (%s)", reason)
        return False
    return True
