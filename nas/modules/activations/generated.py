"""Kernels generated for one function, on the CPU: C with vectors and threads, built in a fifth of a second.

Only x is kept for the backward pass, in which the slopes by x and by all parameters are computed again, in one loop.
Vectors of exp, tanh and the like come from glibc's libmvec (4 ulp), through GCC, on x86-64.
"""

from __future__ import annotations

import ctypes
import platform
from functools import lru_cache

import torch
from torch import Tensor

from nas.modules.activations.build import NoCompiler, build, threads

DTYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}
_FLAGS = (
    "-std=gnu99",
    "-march=native",
    "-fsingle-precision-constant",  # or 0.1 * x would be computed in float64
    "-fno-math-errno",  # the following two are what vectors need; NaN and infinity stay what they are
    "-fno-trapping-math",
    "-fno-tree-sink",  # nor may calls be moved into branches,
    "-fno-builtin-sinf",  # or sin and cos of one number be joined in sincos, of which there are no vectors
    "-fno-builtin-cosf",
    "-fopenmp",
    "-lmvec",
    "-lm",
)
_ATTEMPTS = (_FLAGS, tuple(flag for flag in _FLAGS if flag != "-fopenmp"))  # with threads, else without
_PARTS = '#include "bf16.h"\n#include "pieces.h"\n#include "operators.h"\n{text}\n#include "loops.h"\n'


class Kernel:
    """A built kernel.

    Tensors are dense, on the CPU, of a type of ``DTYPES``. They lie in memory as (outer, channels, inner): ``inner`` is
    the stride of the dimension with the channels, or whatever divides their number if there is one channel.
    """

    def __init__(self, text: str) -> None:
        library = build("kernel", _PARTS.format(text=text), _ATTEMPTS)
        self._forward = {dtype: _function(library, f"forward_{name}", 3) for dtype, name in DTYPES.items()}
        self._backward = {dtype: _function(library, f"backward_{name}", 5) for dtype, name in DTYPES.items()}

    def forward(self, x: Tensor, parameters: Tensor, inner: int) -> Tensor:
        """f(x), of the shape and strides of x; parameters float32 (P, channels)."""
        y = torch.empty_like(x)
        pointers = (x.data_ptr(), parameters.data_ptr(), y.data_ptr())
        self._forward[x.dtype](*pointers, *_sizes(x, parameters, inner), threads(x.numel()))
        return y

    def backward(self, x: Tensor, dy: Tensor, parameters: Tensor, inner: int) -> tuple[Tensor, Tensor]:
        """The gradients of x and of the parameters; ``dy`` has the strides of x."""
        dx, count = torch.empty_like(x), threads(x.numel())
        sums = torch.zeros(count, *parameters.shape, dtype=torch.float64)
        pointers = (x.data_ptr(), dy.data_ptr(), parameters.data_ptr(), dx.data_ptr(), sums.data_ptr())
        self._backward[x.dtype](*pointers, *_sizes(x, parameters, inner), count)
        return dx, sums.sum(0).float()


@lru_cache(maxsize=1024)
def kernel(text: str) -> Kernel:
    """The kernel of a generated text, built if need be. Raises NoCompiler."""
    if platform.machine() not in ("x86_64", "AMD64"):
        raise NoCompiler(f"kernels are generated for x86-64, not for {platform.machine()}")
    return Kernel(text)


def _sizes(x: Tensor, parameters: Tensor, inner: int) -> tuple[int, int, int]:
    channels = parameters.shape[1]
    if channels == 1:
        return 1, 1, x.numel()
    return x.numel() // (channels * inner), channels, inner


def _function(library: ctypes.CDLL, name: str, pointers: int) -> ctypes._NamedFuncPointer:
    function = getattr(library, name)
    function.argtypes = [ctypes.c_void_p] * pointers + [ctypes.c_int64] * 4
    function.restype = None
    return function
