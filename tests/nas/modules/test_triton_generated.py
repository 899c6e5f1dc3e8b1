"""Generated Triton kernels without a GPU: compiled for one, and their arithmetic in Triton's interpreter."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from search_spaces.kernel_source import kernel_source
from search_spaces.operators import OPERATORS
from search_spaces.parser import parse

pytest.importorskip("triton")

INTERPRETED = """
import types
import numpy as np, torch
import triton.language as tl
from scipy import special
from torch.autograd import grad
from triton.runtime.interpreter import TensorHandle
from nas.modules.activations import triton_operators
from search_spaces.compile import to_positional
from search_spaces.expression import params
from search_spaces.kernel_source import kernel_source
from search_spaces.parser import parse

def by_numpy(function):  # libdevice is a GPU's, so numpy stands in for it
    def call(*tensors):
        with np.errstate(all="ignore"):
            data = np.asarray(function(*(t.handle.data for t in tensors)), dtype=np.float32)
        return tl.tensor(TensorHandle(data, tensors[0].handle.dtype), tensors[0].type)
    return call

triton_operators.libdevice = types.SimpleNamespace(
    expm1=by_numpy(np.expm1), log1p=by_numpy(np.log1p), sinh=by_numpy(np.sinh), cosh=by_numpy(np.cosh),
    tanh=by_numpy(np.tanh), asinh=by_numpy(np.arcsinh), atan=by_numpy(np.arctan), erfc=by_numpy(special.erfc),
    pow=by_numpy(np.power))
from nas.modules.activations.triton_generated import kernel

torch.manual_seed(0)
for text, channels, shape, dim in (
    ("x * sigmoid(beta * x)", 1, (2000,), 0),
    ("x * sigmoid(beta * x)", 7, (5, 7, 6, 9), 1),
    ("x * sigmoid(beta * x)", 3, (2, 3, 40, 50), 1),
    ("tanh(x) * atan(beta * x) + gamma * sinc(x)", 70, (45, 70), 1),
    ("max(x, alpha * expm1(x)) + min(log1p(abs(x)), 0.5) ** 2", 5, (3, 5, 4), 1),
    ("x * tanh(softplus(x)) + selu(x) - erfc(x) * logsigmoid(x)", 1, (3000,), 0),
):
    expression = parse(text)
    names = params(expression)
    x, dy, rows = torch.randn(shape), torch.randn(shape), torch.rand(len(names), channels) + 0.5
    made = kernel(kernel_source(expression)[1], len(names))
    inner = x.stride(dim) if channels > 1 else 1
    y, (dx, dp) = made.forward(x, rows, inner), made.backward(x, dy, rows, inner)
    wide, exact = x.double().requires_grad_(), rows.double().requires_grad_()
    place = [1] * len(shape)
    place[dim] = channels
    expected = to_positional(expression, ("x", *names))(wide, *(row.view(place) for row in exact))
    slopes = grad(expected, [wide, exact] if names else [wide], dy.double())
    torch.testing.assert_close(y.double(), expected.detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(dx.double(), slopes[0], rtol=1e-5, atol=1e-5)
    if names:
        torch.testing.assert_close(dp.double(), slopes[1], rtol=1e-4, atol=1e-4)
print("right")
"""


def test_the_arithmetic_in_tritons_interpreter():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", INTERPRETED],
        capture_output=True,
        text=True,
        env={**os.environ, "TRITON_INTERPRET": "1"},
    )
    assert done.stdout.strip() == "right", done.stderr[-2000:]


TEXTS = [
    *(f"{name}(x)" for name, row in OPERATORS.items() if row.arity == 1 and row.slopes),
    *(f"{name}(x, beta)" for name, row in OPERATORS.items() if row.arity == 2 and row.slopes),
    *("max(x, 0)", "x ** 2.5", "2 ** x", "x + 1", "beta + 0 * x", "max(alpha * x, beta * tanh(x)) ** alpha"),
]


QUICK = {"sigmoid(x)", "softplus(x)", "sinc(x)", "pow(x, beta)", "max(x, 0)", "max(alpha * x, beta * tanh(x)) ** alpha"}


@pytest.mark.parametrize("text", [t if t in QUICK else pytest.param(t, marks=pytest.mark.slow) for t in TEXTS])
def test_every_kernel_compiles_for_a_gpu(text):
    """To machine code of compute capability 9.0, by the compiler that Triton brings, without float64 in it."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    from nas.modules.activations import triton_generated

    source = kernel_source(parse(text))
    count = sum(f"{name}" in text for name in ("alpha", "beta"))
    module = triton_generated.kernel(source[1], count)._module
    sizes = {"channels": "i32", "inner": "i32"}
    pointers = {"x": "*bf16", "dy": "*bf16", "p": "*fp32", "dx": "*bf16", "sums": "*fp32"}
    block, tile = {"BLOCK": 1024}, {"ROWS": 32, "COLUMNS": 64}
    given = {"x": "*fp32", "p": "*fp32", "y": "*fp32"}
    wanted = [
        (module.forward, {"x": "*bf16", "y": "*bf16", "n": "i32"}, block),
        (module.backward, {"x": "*fp16", "dy": "*fp16", "dx": "*fp16", "n": "i32"}, block),
    ]
    if count:
        wanted = [
            (module.forward, {**given, **sizes, "blocks": "i32"}, block),
            (module.backward, {**pointers, **sizes, "blocks": "i32"}, block),
            (module.forward_rows, {**given, "outer": "i32", "channels": "i32"}, tile),
            (module.backward_rows, {**pointers, "outer": "i32", "channels": "i32"}, tile),
        ]
    for function, signature, constants in wanted:
        made = compile(
            ASTSource(function, {**signature, **dict.fromkeys(constants, "constexpr")}, constants),
            target=GPUTarget("cuda", 90, 32),
        )
        assert made.asm["cubin"]
        if not {"sin", "cos", "sinc"} & set(text.replace("(", " ").split()):  # of huge numbers, by way of float64
            assert ".f64" not in made.asm["ptx"]
