"""The table look-ups of ``gather.c``, called through ctypes."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from nas.modules.activations.build import build, threads

_SOURCE = Path(__file__).with_name("gather.c")
_ATTEMPTS = (("-std=c99", "-march=native", "-fopenmp"), ("-std=c99", "-march=native"), ("-std=c99",))
"""For this very processor and with threads if the compiler can, else for its family."""
_FUNCTIONS = {
    "nas_forward": (3, 2),
    "nas_backward": (4, 2),
    "nas_sum": (3, 1),
    "nas_outside": (1, 3),
    "nas_moments": (3, 2),
    "nas_norm_forward": (6, 4),
    "nas_norm_slopes": (11, 3),
    "nas_norm_backward": (7, 2),
}
"""What gather.c exports: its pointers and its counts, in this order."""
_RESULTS = {"nas_sum": ctypes.c_double, "nas_outside": ctypes.c_int, "nas_norm_forward": ctypes.c_int}


def forward(x: Tensor, values: Tensor) -> Tensor:
    """values[x] for dense bfloat16 ``x``; the result has the strides of ``x``."""
    y = torch.empty_like(x)
    library().nas_forward(x.data_ptr(), values.data_ptr(), y.data_ptr(), *_work(x))
    return y


def backward(x: Tensor, slopes: Tensor, dy: Tensor) -> Tensor:
    """slopes[x] * dy; ``dy`` has the strides of ``x``."""
    dx = torch.empty_like(x)
    library().nas_backward(x.data_ptr(), slopes.data_ptr(), dy.data_ptr(), dx.data_ptr(), *_work(x))
    return dx


def param_grad(x: Tensor, slopes: Tensor, dy: Tensor) -> Tensor:
    """The sum of slopes[x] * dy, float32 ()."""
    return torch.tensor(library().nas_sum(x.data_ptr(), slopes.data_ptr(), dy.data_ptr(), x.numel()))


def is_outside(x: Tensor, bits: range) -> bool:
    """Whether an element of dense ``x``, other than zero, has a magnitude whose bits are not in that range."""
    return bool(library().nas_outside(x.data_ptr(), bits.start, len(bits), x.numel()))


def _work(x: Tensor) -> tuple[int, int]:
    return x.numel(), threads(x.numel())


@cache
def library() -> ctypes.CDLL:
    """The loaded library, built if need be. Raises NoCompiler."""
    loaded = build("gather", _SOURCE.read_text(encoding="utf-8"), _ATTEMPTS)
    for name, (pointers, counts) in _FUNCTIONS.items():
        function = getattr(loaded, name)
        function.argtypes = [ctypes.c_void_p] * pointers + [ctypes.c_int64] * counts
        function.restype = _RESULTS.get(name)
    return loaded
