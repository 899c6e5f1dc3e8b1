"""Programs of values and slopes, run by numpy in float64, against the operators' numpy forms and against autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from scipy import special

from search_spaces.compile import to_function
from search_spaces.expression import Const, Param, Var, call, params
from search_spaces.gradients import NoKernel, differentiate
from search_spaces.kernel_source import kernel_source
from search_spaces.operators import OPERATORS
from search_spaces.parser import parse
from tests.expressions import EXPRESSIONS, NUMPY

WITH_KERNEL = [name for name, row in OPERATORS.items() if row.slopes is not None]
NEUTRAL = {
    **{name: NUMPY[name] for name in WITH_KERNEL},
    "where": np.where,
    "sign": np.sign,
    "larger": lambda a, b, g: np.where(a > b, g, np.where(a == b, 0.5 * g, 0.0)),
    "sinc_slope": lambda x: np.where(x == 0, 0.0, special.spherical_jn(0, np.abs(x), derivative=True) * np.sign(x)),
}


def run(program, x, **parameters):
    """The value and the slopes of a program, each of the shape of x."""
    scope = {**NEUTRAL, "x": x, "g": np.ones_like(x), **{k: np.float64(v) for k, v in parameters.items()}}
    with np.errstate(all="ignore"):
        for name, text in (*program.values, *program.gradients):
            scope[name] = eval(text, {"__builtins__": {}}, scope)  # noqa: S307 (written by us, in a test)
        results = [
            eval(text, {"__builtins__": {}}, scope)  # noqa: S307
            for text in (program.value, *program.slopes)
        ]
    return [np.broadcast_to(np.asarray(result, dtype=np.float64), x.shape) for result in results]


def by_autograd(expression, x, **parameters):
    inputs = {"x": torch.from_numpy(x).requires_grad_()}
    inputs |= {k: torch.full(x.shape, v, dtype=torch.float64, requires_grad=True) for k, v in parameters.items()}
    tensors = list(inputs.values())
    y = to_function(expression)(tensors[0], **dict(zip(parameters, tensors[1:], strict=True)))
    slopes = torch.autograd.grad(y.sum(), tensors, allow_unused=True) if y.requires_grad else [None] * len(tensors)
    return [y.detach().numpy(), *(np.zeros(x.shape) if slope is None else slope.numpy() for slope in slopes)]


def compare(expression, x, **parameters):
    ours, theirs = run(differentiate(expression), x, **parameters), by_autograd(expression, x, **parameters)
    for found, expected in zip(ours, theirs, strict=True):
        finite = np.isfinite(expected)
        scale = 1e-9 * (1 + np.abs(expected[finite]))
        assert np.all(np.abs(found[finite] - expected[finite]) <= scale), expression


@pytest.mark.parametrize("name", WITH_KERNEL)
def test_each_operator(name):
    x = np.array([-4.3, -2.0, -1.0, -0.3, -1e-3, 0.0, 1e-3, 0.4, 1.0, 2.5, 6.0])
    arity = OPERATORS[name].arity
    if arity == 1:
        compare(call(name, Var("x")), x)
        return
    for constant in (Const(2.0), Const(-0.5), Const(0.0)):  # with kinks at points of x
        compare(call(name, Var("x"), constant), x)
        compare(call(name, constant, Var("x")), x)
    compare(call(name, Var("x"), Param("beta")), x, beta=1.0)
    compare(call(name, Param("beta"), call("sin", Var("x"))), x, beta=0.7)


@given(EXPRESSIONS)
def test_any_expression(expression):
    try:
        program = differentiate(expression)
    except NoKernel:
        return
    names = params(expression)
    x = np.linspace(-3.1, 2.9, 41)
    parameters = {name: 0.7 + 0.2 * k for k, name in enumerate(names)}
    ours, theirs = run(program, x, **parameters), by_autograd(expression, x, **parameters)
    with np.errstate(all="ignore"):
        for found, expected in zip(ours, theirs, strict=True):
            # Sums of terms that cancel, and infinite ones, are rounded differently; most points are neither.
            close = np.abs(found - expected) <= 1e-6 * (1 + np.abs(expected))
            assert (close | ~np.isfinite(expected) | (np.abs(expected) > 1e12)).mean() > 0.8, str(expression)


def test_shared_parts_are_computed_once():
    program = differentiate(parse("sigmoid(x) * x + sigmoid(x)"))
    assert [text for _, text in program.values].count("sigmoid(x)") == 1


@pytest.mark.parametrize(
    ("text", "why"), [("i0e(x)", "i0e has no kernel"), ("x1 * x2", "input x1, x2"), ("x * (1 / 0)", "constant inf")]
)
def test_what_has_no_kernel(text, why):
    with pytest.raises(NoKernel, match=why):
        differentiate(parse(text))
    assert kernel_source(parse(text)) is None


def test_every_operator_that_can_has_a_kernel():
    assert set(OPERATORS) - set(WITH_KERNEL) == {"i0e", "i1e"}
