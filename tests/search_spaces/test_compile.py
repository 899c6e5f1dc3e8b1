"""Expressions as modules: shapes, parameters, gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from search_spaces.compile import ExpressionActivation, plan, to_function
from search_spaces.operators import OPERATORS
from search_spaces.parser import parse


def test_equal_subexpressions_are_computed_once():
    assert len(plan(parse("tanh(x) * tanh(x) + tanh(x)")).steps) == 3


def test_constant_parts_are_numbers():
    steps = plan(parse("x * (2 + sin(1))")).steps
    assert len(steps) == 1


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 5), (4, 3, 5, 6)])
def test_per_channel_parameters_act_on_dimension_1(shape):
    act = ExpressionActivation(parse("x * sigmoid(beta * x)"), "channel")
    x = torch.randn(shape, dtype=torch.float64)
    act(x)
    assert act.beta.shape == (3,)
    assert act.beta.tolist() == [1, 1, 1]
    act.beta.data = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    expected = torch.stack([x[:, c] * torch.sigmoid(b * x[:, c]) for c, b in enumerate([0.5, 1.0, 2.0])], dim=1)
    torch.testing.assert_close(act(x), expected)


def test_scalar_parameters_exist_before_the_first_input():
    act = ExpressionActivation(parse("beta * x + alpha"), "scalar")
    assert {name: p.shape for name, p in act.named_parameters()} == {"beta": (), "alpha": ()}
    assert act(torch.tensor(2.0)).shape == ()


def test_gradients_pass_gradcheck():
    act = ExpressionActivation(parse("x * sigmoid(beta * x) + 0.1 * tanh(alpha * x)"), "channel").double()
    x = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    act(x)
    act.double()
    assert torch.autograd.gradcheck(act, (x,))


def test_every_site_learns_its_own():
    net = nn.Sequential(*(ExpressionActivation(parse("beta * tanh(x)"), "scalar") for _ in range(3)))
    assert len({id(p) for p in net.parameters()}) == 3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_output_has_the_inputs_dtype_and_shape(dtype):
    for text in ("x * sigmoid(beta * x)", "beta", "3", "max(x, 0)"):
        act = ExpressionActivation(parse(text), "channel")
        out = act(torch.randn(2, 3, 4, 4).to(dtype))
        assert (out.dtype, out.shape) == (dtype, (2, 3, 4, 4))


def test_max_with_a_constant_on_either_side():
    x = torch.linspace(-2, 2, 9)
    torch.testing.assert_close(to_function(parse("max(0, x)"))(x), torch.relu(x))
    torch.testing.assert_close(to_function(parse("min(0, x)"))(x), -torch.relu(-x))


def test_a_gate_has_two_inputs():
    gate = ExpressionActivation(parse("x1 * sigmoid(beta * x2)"), "channel")
    a, b = torch.randn(2, 4, 3, dtype=torch.float64)
    torch.testing.assert_close(gate(a, b), a * torch.sigmoid(b))
    assert gate.beta.shape == (3,)


@pytest.mark.parametrize(("expression", "given"), [("x1 * x2", 1), ("tanh(x)", 2)])
def test_a_wrong_number_of_inputs_is_said(expression, given):
    act = ExpressionActivation(parse(expression))
    with pytest.raises(ValueError, match=f"the model gives it {given}: use a function of x in a place for one"):
        act(*torch.randn(given, 2, 3))


@pytest.mark.parametrize("expression", ["x * x1", "x3 + x1"])
def test_other_inputs_are_refused(expression):
    with pytest.raises(ValueError, match="only input is x, a gate's inputs are x1 and x2"):
        ExpressionActivation(parse(expression))


def test_narrow_inputs_are_computed_in_float32_and_rounded_once():
    x = torch.randn(1000).bfloat16()
    act = ExpressionActivation(parse("(x + 100) - 100"))
    torch.testing.assert_close(act(x), ((x.float() + 100) - 100).bfloat16(), rtol=0, atol=0)


def test_every_unary_operator_compiles_with_a_parameter_a_channel():
    """As trials without a table run; one function of all operators, so that it is compiled once."""
    unary = [name for name, row in OPERATORS.items() if row.arity == 1 and row.symbol is None]
    act = ExpressionActivation(parse(" + ".join(f"beta * {name}(abs(x) + 1)" for name in unary)), "channel")
    x = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    eager = act(x)
    (slope,) = torch.autograd.grad(eager.sum(), x)
    act.function = torch.compile(act.function, dynamic=True)
    compiled = act(x)
    torch.testing.assert_close(compiled, eager, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(torch.autograd.grad(compiled.sum(), x)[0], slope, rtol=1e-5, atol=1e-4)
