"""Pointwise functions with learnable parameters as one kernel forward and one backward.

Only x is kept for the backward pass, as torch keeps it for its own SiLU. Where kernels do not reach (float64, float16
on a CPU, transforms of torch.func, tracing, compiling, exporting), the function is computed by torch's operators, which
torch.compile fuses, exporters know and autograd differentiates as often as wanted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils._python_dispatch import _get_current_dispatch_mode

from nas.modules.activations import generated
from nas.modules.activations.build import NoCompiler
from nas.modules.activations.lookup import backend
from nas.modules.activations.table import is_dense, tabulate

_LOG = logging.getLogger(__name__)


class Kernel(Protocol):
    """What computes a function of a dense tensor; see :class:`nas.modules.activations.generated.Kernel`."""

    def forward(self, x: Tensor, parameters: Tensor, inner: int) -> Tensor: ...

    def backward(self, x: Tensor, dy: Tensor, parameters: Tensor, inner: int) -> tuple[Tensor, Tensor]: ...


@dataclass(frozen=True)
class Formula:
    """A function, in every form that it is computed in.

    Attributes:
        plain: ``f(x, *parameters)`` in torch's operators, for any floating dtype; parameters broadcast against x.
        parameters: their number.
        c: text for :mod:`nas.modules.activations.generated`; None if there is no kernel.
        triton: text for :mod:`nas.modules.activations.triton_generated`.
    """

    plain: Callable[..., Tensor]
    parameters: int
    c: str | None = None
    triton: str | None = None


def with_parameters(x: Tensor, formula: Formula, values: Sequence[Tensor], channel_dim: int = 1) -> Tensor:
    """f(x) with parameters as modules hold them, () or (C,): by :func:`pointwise`, or in operators if it is watched."""
    channels = max((value.numel() for value in values if value.dim()), default=1)
    if not is_watched(x):
        rows = torch.stack([value.expand(channels) for value in values]) if values else None
        return pointwise(x, formula, rows, channel_dim)
    shape = [1] * x.dim()  # a graph of plain operators, in which parameters are seen one by one
    if channels > 1:
        shape[channel_dim] = channels
    return formula.plain(x, *(value.view(shape) if value.dim() else value for value in values))


def pointwise(x: Tensor, formula: Formula, parameters: Tensor | None = None, channel_dim: int = 1) -> Tensor:
    """f(x) for x of any shape, by a kernel where there is one. Ask :func:`is_watched` before.

    Args:
        x: of any floating dtype.
        formula: the function.
        parameters: (P, C), values for each of the C channels, or (P, 1) for values that all elements share; None if
            the function has none.
        channel_dim: the dimension of x that has C channels.

    Returns:
        of the shape, dtype and order in memory of x.
    """
    parameters = _none(x.device) if parameters is None else parameters
    kernel = kernel_for(formula, x.device.type, x.dtype)
    if kernel is None or not x.numel() or parameters.device != x.device:
        return plain(x, formula, parameters, channel_dim)
    x = x if is_dense(x) else x.contiguous()
    y: Tensor = _Pointwise.apply(x, parameters, formula, kernel, channel_dim)
    return y


@cache
def _none(device: torch.device) -> Tensor:
    """No parameters."""
    return torch.empty(0, 1, device=device)


def plain(x: Tensor, formula: Formula, parameters: Tensor, channel_dim: int) -> Tensor:
    """The same by torch's operators."""
    shape = [1] * x.dim()
    if parameters.shape[1] > 1:
        shape[channel_dim] = -1
    return formula.plain(x, *(row.view(shape) for row in parameters))


def is_watched(x: Tensor) -> bool:
    """Whether somebody wants to see operators: a compiler, an exporter, a transform, a tensor of another kind."""
    return (
        torch.compiler.is_compiling()
        or type(x) not in (Tensor, torch.nn.Parameter)
        or torch._C._get_tracing_state() is not None
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
        or _get_current_dispatch_mode() is not None
    )


class _Pointwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, parameters: Tensor, formula: Formula, kernel: Kernel, channel_dim: int) -> Tensor:
        ctx.save_for_backward(x, parameters)
        ctx.how = formula, kernel, channel_dim
        return kernel.forward(x, parameters.float().contiguous(), _inner(x, parameters, channel_dim))

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, parameters = ctx.saved_tensors
        formula, kernel, channel_dim = ctx.how
        if torch.is_grad_enabled():  # somebody will differentiate this again
            wanted = [tensor for tensor, needed in zip((x, parameters), ctx.needs_input_grad, strict=False) if needed]
            y = plain(x, formula, parameters, channel_dim)
            if not y.requires_grad:
                return (None,) * 5
            found = iter(torch.autograd.grad(y, wanted, dy, create_graph=True, allow_unused=True))
            dx, dp = (next(found) if needed else None for needed in ctx.needs_input_grad[:2])
            return dx, dp, None, None, None
        if dy.stride() != x.stride():
            dy = torch.empty_like(x).copy_(dy)
        inner = _inner(x, parameters, channel_dim)
        dx, dp = kernel.backward(x, dy, parameters.float().contiguous(), inner)
        return dx, dp.to(parameters.dtype), None, None, None


def _inner(x: Tensor, parameters: Tensor, channel_dim: int) -> int:
    return x.stride(channel_dim) if parameters.shape[1] > 1 else 1


@dataclass(frozen=True)
class _Table:
    """A function without parameters by table, for bfloat16."""

    values: Tensor
    slopes: Tensor

    def forward(self, x: Tensor, parameters: Tensor, inner: int) -> Tensor:
        return backend(x.device).forward(x, self.values)

    def backward(self, x: Tensor, dy: Tensor, parameters: Tensor, inner: int) -> tuple[Tensor, Tensor]:
        return backend(x.device).backward(x, self.slopes, dy), torch.zeros_like(parameters)


@cache
def kernel_for(formula: Formula, device: str, dtype: torch.dtype) -> Kernel | None:
    """What computes this function fastest there; None if nothing is faster than torch's operators."""
    if device == "cpu" and dtype == torch.bfloat16 and not formula.parameters and backend(_CPU).name == "native":
        values, slopes = tabulate(formula.plain, {}, _CPU)
        return _Table(values[0], slopes[0, 0])
    if device == "cpu" and dtype in generated.DTYPES and formula.c is not None:
        return _on_cpu(formula.c)
    if device == "cuda" and formula.triton is not None:
        return _on_gpu(formula.triton, formula.parameters, dtype)
    return None


_CPU = torch.device("cpu")


def _on_cpu(text: str) -> Kernel | None:
    try:
        return generated.kernel(text)
    except NoCompiler as error:
        _say(f"activations are computed operator by operator ({error})")
        return None


def _on_gpu(text: str, parameters: int, dtype: torch.dtype) -> Kernel | None:
    try:
        from nas.modules.activations import triton_generated  # imports triton, which only GPU builds of torch have
    except ImportError as error:
        _say(f"activations are computed operator by operator ({error})")
        return None
    return triton_generated.kernel(text, parameters) if dtype in triton_generated.DTYPES else None


@cache
def _say(what: str) -> None:
    """Once."""
    _LOG.warning(what)
