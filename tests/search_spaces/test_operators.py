"""Every operator against numpy/scipy, against its sympy form, and against its exported source."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
import sympy
import torch
import torch.nn.functional as F
from hypothesis import example, given

from search_spaces.codegen import to_source
from search_spaces.compile import to_function
from search_spaces.expression import Const, Var, call, params
from search_spaces.operators import OPERATORS
from search_spaces.parser import parse
from search_spaces.sympy_bridge import QUESTIONS, ask, derivative, latex, to_sympy
from tests.expressions import EXPRESSIONS, NUMPY

POINTS = np.array([-4.3, -2.0, -1.2, -0.3, -1e-3, 1e-3, 0.4, 1.0, 2.5, 6.0])


def operands(arity: int) -> list[np.ndarray]:
    if arity == 1:
        return [POINTS]
    left, right = np.meshgrid(POINTS, POINTS)
    return [left.ravel(), right.ravel()]


@pytest.mark.parametrize("name", OPERATORS)
def test_values_agree_with_numpy(name):
    row = OPERATORS[name]
    inputs = operands(row.arity)
    with np.errstate(all="ignore"):
        expected = NUMPY[name](*inputs)
    actual = row.torch(*(torch.from_numpy(i) for i in inputs)).numpy()
    np.testing.assert_allclose(actual, expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("name", OPERATORS)
def test_values_agree_with_the_sympy_form(name):
    row = OPERATORS[name]
    symbols = sympy.symbols("a b", real=True)[: row.arity]
    form = row.sympy(sympy, *symbols)
    for values in zip(*operands(row.arity), strict=True):
        expected = complex(form.subs(dict(zip(symbols, map(sympy.Float, values), strict=True))).evalf(30))
        actual = row.torch(*(torch.tensor(v, dtype=torch.float64) for v in values)).item()
        if abs(expected.imag) > 1e-12:  # outside the operator's real domain
            assert math.isnan(actual)
        else:
            assert actual == pytest.approx(expected.real, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", OPERATORS)
def test_derivative_agrees_with_sympy(name):
    row = OPERATORS[name]
    expression = call(name, Var("x")) if row.arity == 1 else call(name, Var("x"), Const(1.7))
    x = torch.tensor([0.3, 0.9, 2.2], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(to_function(expression)(x).sum(), x)
    form = derivative(expression)
    expected = [float(form.subs("x", v).subs(sympy.Symbol("x", real=True), v).evalf()) for v in x.tolist()]
    np.testing.assert_allclose(gradient.numpy(), expected, rtol=1e-9)


@given(EXPRESSIONS)
@example(parse("x / (2 ** 1024)"))
@example(parse("max(1 / 0, x) - sqrt(-1)"))
@example(parse("x * (0 / 0) ** x"))
@example(parse("x / neg(0)"))
@example(parse("sinc(x + x)"))
def test_generated_source_computes_the_expression(expression):
    source = to_source(expression)
    names = {name: torch.tensor(0.3 + 0.4 * i, dtype=torch.float64) for i, name in enumerate(params(expression))}
    x = torch.tensor([-2.1, -0.4, 0.7, 1.9], dtype=torch.float64)
    scope = {"torch": torch, "F": F, "math": math, "x": x, **names}
    exec("\n".join((*source.statements, f"result = {source.result}")), scope)  # noqa: S102
    result = torch.as_tensor(scope["result"], dtype=torch.float64)
    expected = to_function(expression)(x, **names)
    torch.testing.assert_close(result.expand(4), expected, rtol=1e-9, atol=1e-12, equal_nan=True)


def every_bfloat16() -> torch.Tensor:
    values = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    return values[values.isfinite()]


def many_float32() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    bits = torch.randint(-(2**31), 2**31 - 1, (300_000,), generator=generator).to(torch.int32)
    values = torch.cat([bits.view(torch.float32), every_bfloat16().float()])
    return values[values.isfinite()]


@pytest.mark.parametrize("inputs", [every_bfloat16, many_float32], ids=["bfloat16", "float32"])
@pytest.mark.parametrize("name", [name for name, row in OPERATORS.items() if row.arity == 1])
def test_value_and_slope_are_finite_on_the_whole_domain(name, inputs):
    """All 65,280 finite bfloat16 numbers, and random bit patterns of float32, as far as the operator claims."""
    row = OPERATORS[name]
    low, high = row.domain
    x = inputs()
    x = x[(x.float() >= low) & (x.float() <= high)].requires_grad_()
    assert len(x) > 10_000
    y = row.torch(x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert y.isfinite().all()
    assert slope.isfinite().all()


@pytest.mark.parametrize("name", [name for name, row in OPERATORS.items() if row.arity == 1])
def test_float32_values_are_accurate_on_the_whole_domain(name):
    """Against numpy and scipy in float64, to a few units in the last place."""
    low, high = OPERATORS[name].domain
    x = many_float32()
    x = x[(x >= low) & (x <= high) & (x.abs() < 1e4)]
    with np.errstate(all="ignore"):
        expected = NUMPY[name](x.double().numpy())
    np.testing.assert_allclose(OPERATORS[name].torch(x).double().numpy(), expected, rtol=2e-6, atol=2e-7)


def test_latex_keeps_the_spelling():
    assert latex(parse("x * sigmoid(x)")) == r"\frac{x}{1 + e^{- x}}"
    assert latex(parse("cos(x) - beta * x")) == r"- \beta x + \cos{\left(x \right)}"


@pytest.mark.parametrize(
    "text",
    [
        "x + 9 ** 9 ** 9",
        "1e300 ** 1e300 * x",
        "2 ** (10 ** 9) * x",
        "exp(-exp(-exp(x)))",
        "silu(" * 16 + "x" + ")" * 16,
    ],
)
def test_sympy_is_given_up_when_it_takes_too_long_or_throws(text):
    start = time.monotonic()
    answers = ask("forms", parse(text), 2.0)
    assert time.monotonic() - start < 20
    assert all(len(value) <= 2_000 for value in answers.values())


def test_answers_that_came_before_sympy_hung_are_kept(monkeypatch):
    def slow(expression):
        yield "limit-1", 0.0
        time.sleep(60)

    monkeypatch.setitem(QUESTIONS, "limits", slow)
    assert ask("limits", parse("x"), 0.5) == {"limit-1": 0.0}


def test_latex_of_what_sympy_cannot_print_unevaluated():
    """sympy recurses without end on this one under evaluate(False)."""
    assert "e^{" in latex(parse("x * sigmoid(exp(-sigmoid(x) ** 2))"))


def test_sympy_round_trip_of_a_derivative():
    """d/dx x*sigmoid(beta x) written out by hand."""
    x, beta = sympy.Symbol("x", real=True), sympy.Symbol("beta", real=True)
    s = 1 / (1 + sympy.exp(-beta * x))
    by_hand = s + beta * x * s * (1 - s)
    assert sympy.simplify(derivative(parse("x * sigmoid(beta * x)")) - by_hand) == 0
    assert to_sympy(parse("x")) == x
