"""The operators of generated Triton kernels, by the names that their text has for them; all of them in float32."""

# mypy: ignore-errors
from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra import libdevice


# fmt: off
@triton.jit
def where(condition, a, b): return tl.where(condition, a, b)
@triton.jit
def abs(x): return tl.abs(x)
@triton.jit
def sqrt(x): return tl.sqrt(x)
@triton.jit
def exp(x): return tl.exp(x)
@triton.jit
def expm1(x): return libdevice.expm1(x)
@triton.jit
def log(x): return tl.log(x)
@triton.jit
def log1p(x): return libdevice.log1p(x)
@triton.jit
def sin(x): return tl.sin(x)
@triton.jit
def cos(x): return tl.cos(x)
@triton.jit
def sinh(x): return libdevice.sinh(x)
@triton.jit
def cosh(x): return libdevice.cosh(x)
@triton.jit
def tanh(x): return libdevice.tanh(x)
@triton.jit
def asinh(x): return libdevice.asinh(x)
@triton.jit
def atan(x): return libdevice.atan(x)
@triton.jit
def erf(x): return tl.erf(x)
@triton.jit
def erfc(x): return libdevice.erfc(x)
# A number among the operands becomes a tensor, which libdevice wants.
@triton.jit
def pow(x, y): return libdevice.pow(x + (y - y), y + (x - x))
# NaN stays NaN in all of them, as in torch.
@triton.jit
def max(a, b): return tl.where((a > b) | (a != a), a, b)
@triton.jit
def min(a, b): return tl.where((a < b) | (a != a), a, b)
@triton.jit
def sign(x): return tl.where(x > 0, 1.0, tl.where(x < 0, -1.0, x))
@triton.jit
def square(x): return x * x
@triton.jit
def cube(x): return x * x * x
@triton.jit
def sigmoid(x): return 1 / (1 + tl.exp(-x))
@triton.jit
def softplus(x): return max(x, 0.0) + log1p(tl.exp(-tl.abs(x)))
@triton.jit
def logsigmoid(x): return -softplus(-x)
@triton.jit
def softsign(x): return x / (1 + tl.abs(x))
@triton.jit
def relu(x): return max(x, 0.0)
@triton.jit
def elu(x): return tl.where(x > 0, x, expm1(x))
@triton.jit
def selu(x): return 1.0507009873554805 * tl.where(x > 0, x, 1.6732632423543772 * expm1(x))
@triton.jit
def silu(x): return x / (1 + tl.exp(-x))
@triton.jit
def hard_sigmoid(x): return min(max(0.2 * x + 0.5, 0.0), 1.0)
@triton.jit
def sinc(x): return tl.where(x == 0, 1.0, tl.sin(x) / x)


# (cos(x) - sinc(x)) / x; near 0, where that cancels, its series.
@triton.jit
def sinc_slope(x):
    s = x * x
    near = x * (-1.0 / 3 + s * (1.0 / 30 - s * (1.0 / 840 - s / 45360)))
    return tl.where(s < 0.25, near, (tl.cos(x) - tl.sin(x) / x) / x)


# What a has of the gradient of max(a, b); halves of it, where they are equal.
@triton.jit
def larger(a, b, gradient): return tl.where(a > b, gradient, tl.where(a == b, 0.5 * gradient, 0.0))
# fmt: on
