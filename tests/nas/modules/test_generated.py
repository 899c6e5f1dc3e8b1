"""Generated C kernels against numpy and scipy in float64, and against autograd of plain operators."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.autograd import grad

from nas.modules.activations import generated
from nas.modules.activations.build import NoCompiler
from search_spaces.compile import to_positional
from search_spaces.expression import Var, call, params
from search_spaces.kernel_source import kernel_source
from search_spaces.operators import OPERATORS
from search_spaces.parser import parse
from tests.expressions import NUMPY

UNARY = [name for name, row in OPERATORS.items() if row.arity == 1 and row.slopes is not None]
NONE = torch.empty(0, 1)


def kernel(expression):
    return generated.kernel(kernel_source(expression)[0])


@pytest.mark.parametrize("name", UNARY)
def test_every_operator_over_its_domain(name):
    """Within a few units of the last place of float32, also where exp and its like vanish or overflow."""
    low, high = OPERATORS[name].domain
    x = np.unique(np.float32([v for e in range(-30, 31) for v in (2.0**e, -(2.0**e), 1.37 * 2.0**e, -1.37 * 2.0**e)]))
    x = np.concatenate([x[(x > low) & (x < high)], np.linspace(max(low, -20), min(high, 20), 999, dtype=np.float32)])
    if name in ("sin", "cos", "sinc"):
        x = x[np.abs(x) < 1e4]
    with np.errstate(all="ignore"):
        expected = NUMPY[name](x.astype(np.float64))
    found = kernel(call(name, Var("x"))).forward(torch.from_numpy(x), NONE, 1).numpy()
    scale = np.maximum(np.abs(expected), 1e-37)
    relative = np.abs(found - expected) / scale
    absolute = np.abs(found - expected)
    assert np.all((relative < 2e-6) | (absolute < 3e-7)), (name, x[np.argmax(relative * (absolute > 3e-7))])


@pytest.mark.parametrize("name", UNARY)
def test_nan_and_infinity_stay_what_they_are(name):
    x = torch.tensor([torch.nan, torch.inf, -torch.inf, 0.0, -0.0] * 8)
    found = kernel(call(name, Var("x"))).forward(x, NONE, 1)
    with np.errstate(all="ignore"):
        expected = OPERATORS[name].torch(x)
    torch.testing.assert_close(found, expected, equal_nan=True, atol=1e-6, rtol=1e-6)


CASES = [
    "x * sigmoid(beta * x)",
    "max(x, beta * x) + gamma * sin(x)",
    "atan(x) * sigmoid(1.7 * x) + 0.1 * x * exp(-x ** 2)",
    "softplus(alpha * x) * tanh(beta * x) / (1 + square(gamma))",
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("text", CASES)
@pytest.mark.parametrize(
    ("shape", "dim", "last"),
    [
        ((5, 7, 6, 9), 1, False),
        ((5, 7, 6, 9), 1, True),
        ((3, 4, 50, 61), 1, False),
        ((33, 2100), 1, True),
        ((9,), 0, 0),
    ],
)
def test_values_and_all_gradients(text, dtype, shape, dim, last):
    """One parameter a channel, in every order of memory, with rests of blocks and vectors."""
    expression = parse(text)
    names = params(expression)
    generator = torch.Generator().manual_seed(0)
    x, dy = (torch.randn(shape, generator=generator).to(dtype) for _ in range(2))
    if len(shape) == 4 and last:
        x, dy = (t.to(memory_format=torch.channels_last) for t in (x, dy))
    channels = shape[dim]
    parameters = 0.5 + torch.rand(len(names), channels, generator=generator)
    made = kernel(expression)
    inner = x.stride(dim)
    y = made.forward(x, parameters, inner)
    dx, dp = made.backward(x, dy, parameters, inner)

    wide, rows = x.double().requires_grad_(), parameters.double().requires_grad_()
    place = [1] * len(shape)
    place[dim] = channels
    expected = to_positional(expression, ("x", *names))(wide, *(row.view(place) for row in rows))
    slopes = grad(expected, [wide, rows] if names else [wide], dy.double())
    rounding = {torch.float32: 3e-6, torch.bfloat16: 8e-3}[dtype]
    torch.testing.assert_close(y.double(), expected.detach(), rtol=rounding, atol=rounding)
    torch.testing.assert_close(dx.double(), slopes[0], rtol=rounding, atol=rounding)
    assert (y.stride(), dx.stride(), y.dtype) == (x.stride(), x.stride(), dtype)
    if names:
        torch.testing.assert_close(dp.double(), slopes[1], rtol=1e-5, atol=1e-4)


def test_threads_change_no_value(monkeypatch):
    """Sums of several threads are added in one order, so that a gradient is the same every time."""
    expression, x = parse("x * sigmoid(beta * x)"), torch.randn(300_000, generator=torch.Generator().manual_seed(0))
    made, one = kernel(expression), torch.ones(1, 1)
    before = torch.get_num_threads()
    try:
        found = []
        for count in (1, 2, 2):
            torch.set_num_threads(count)
            found.append((made.forward(x, one, 1), *made.backward(x, x, one, 1)))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])
    assert torch.equal(found[1][2], found[2][2])
    torch.testing.assert_close(found[0][2], found[1][2], rtol=1e-6, atol=0)


def test_other_processors_have_no_kernels(monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    with pytest.raises(NoCompiler, match="not for arm64"):
        generated.kernel("enum { PARAMS = 0 };  // another text")
