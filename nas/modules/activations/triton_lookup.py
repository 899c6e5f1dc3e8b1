"""The table look-ups as Triton kernels, for GPUs. The tables are pointers: no kernel is compiled for a new function."""

from __future__ import annotations

import contextlib

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 1024


@triton.jit
def _forward(x, values, y, n, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n
    index = tl.load(x + at, mask=inside, other=0).to(tl.int32) & 0xFFFF
    tl.store(y + at, tl.load(values + index, mask=inside, other=0), mask=inside)


@triton.jit
def _products(x, slopes, dy, at, inside):  # type: ignore[no-untyped-def]
    """slopes[x] * dy in float32; 0 outside."""
    index = tl.load(x + at, mask=inside, other=0).to(tl.int32) & 0xFFFF
    slope = tl.load(slopes + index, mask=inside, other=0.0)
    return slope * tl.load(dy + at, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def _backward(x, slopes, dy, dx, n, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n
    tl.store(dx + at, _products(x, slopes, dy, at, inside).to(tl.bfloat16), mask=inside)


@triton.jit
def _sums(x, slopes, dy, sums, n, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    tl.store(sums + tl.program_id(0), tl.sum(_products(x, slopes, dy, at, at < n), axis=0))


def forward(x: Tensor, values: Tensor) -> Tensor:
    """values[x], all one-dimensional."""
    y = torch.empty_like(x)
    bits = (tensor.view(torch.int16) for tensor in (x, values, y))
    with _on(x):
        _forward[(_blocks(x),)](*bits, x.numel(), BLOCK=_BLOCK)
    return y


def backward(x: Tensor, slopes: Tensor, dy: Tensor) -> Tensor:
    """slopes[x] * dy"""
    dx = torch.empty_like(x)
    with _on(x):
        _backward[(_blocks(x),)](x.view(torch.int16), slopes, dy, dx, x.numel(), BLOCK=_BLOCK)
    return dx


def param_grad(x: Tensor, slopes: Tensor, dy: Tensor) -> Tensor:
    """The sum of slopes[x] * dy: a sum a block, then the sum of these, so that it is the same every time."""
    sums = torch.empty(_blocks(x), device=x.device)
    with _on(x):
        _sums[(_blocks(x),)](x.view(torch.int16), slopes, dy, sums, x.numel(), BLOCK=_BLOCK)
    return sums.sum()


def _blocks(x: Tensor) -> int:
    return int(triton.cdiv(x.numel(), _BLOCK))


def _on(x: Tensor) -> contextlib.AbstractContextManager[None]:
    """Triton launches on the current GPU, which need not be the tensors'."""
    return torch.cuda.device(x.device) if x.is_cuda else contextlib.nullcontext()
