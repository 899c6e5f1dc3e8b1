"""Batch norm, a residual and an activation by table as one operation on the CPU: y = f(BN(x) + residual).

Batch norm as in Ioffe and Szegedy 2015 (arXiv 1502.03167), algorithms 1 and 2. Separately these are five passes over
memory forward and seven backward; together they are two and three, and neither BN(x) nor the sum is ever stored. BN(x)
+ residual is rounded to bfloat16 once, before it is looked up.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from nas.modules.activations import native
from nas.modules.activations.lookup import backend
from nas.modules.activations.table import CORE, TableActivation

_WIDTH = 64
_MOST_CHANNELS = 4096  # BLOCK in gather.c


class NormAct(nn.Module):
    """act(BN(x) + residual); input, residual and output (N, channels, H, W).

    As one operation where that is possible: training on a CPU, bfloat16 in channels_last, an activation by table and a
    C compiler; hooks of ``norm`` and ``act`` are then not called. Elsewhere step by step.

    Args:
        channels: of the batch norm.
        act: any activation module.
    """

    def __init__(self, channels: int, act: nn.Module) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.act = act

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        if self._is_fusable(x, residual):
            return self._fused(x, residual)
        y = self.norm(x)
        return self.act(y if residual is None else y + residual)

    def _is_fusable(self, x: Tensor, residual: Tensor | None) -> bool:
        norm = self.norm
        return (
            isinstance(self.act, TableActivation)
            and type(norm) is nn.BatchNorm2d
            and norm.training  # which may be switched off for the norms alone
            and norm.track_running_stats
            and norm.momentum is not None
            and norm.weight is not None
            and norm.weight.dtype == torch.float32
            and x.dtype == torch.bfloat16
            and x.device.type == "cpu"
            and type(x) is Tensor
            and (residual is None or type(residual) is Tensor)
            and x.is_contiguous(memory_format=torch.channels_last)
            and x.shape[1] <= _MOST_CHANNELS
            and x.numel() > x.shape[1]  # one value a channel has no variance: batch norm says so
            and not torch.compiler.is_compiling()
            and backend(x.device).name == "native"
        )

    def _fused(self, x: Tensor, residual: Tensor | None) -> Tensor:
        assert isinstance(self.act, TableActivation)
        norm = self.norm
        if residual is not None:
            residual = residual.to(torch.bfloat16).expand_as(x).contiguous(memory_format=torch.channels_last)
        y, mean, variance = _NormAct.apply(
            x, residual, norm.weight, norm.bias, norm.eps, self.act, *self.act.parameters()
        )
        self._track(mean, variance, x.numel() // x.shape[1])
        result: Tensor = y
        return result

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, rows: int) -> None:
        """Update the running statistics, as batch norm does; its variance is the unbiased one."""
        norm = self.norm
        assert norm.running_mean is not None
        assert norm.running_var is not None
        assert norm.num_batches_tracked is not None
        assert norm.momentum is not None
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(variance * (rows / (rows - 1)), norm.momentum)
        norm.num_batches_tracked.add_(1)


class _NormAct(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        residual: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        eps: float,
        act: TableActivation,
        *parameters: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        rows = _Rows(x)
        mean, variance = rows.moments(x)
        scale = weight * (variance + eps).rsqrt()
        shift = bias - mean * scale
        y = torch.empty_like(x)
        for core in (act.can_use_core(x.device), False):  # the second time with all entries, if the core is not enough
            values, slopes, *_ = act.tables(x.device, core)
            bits = CORE if core else range(0x8000)
            if not rows.forward(x, residual, scale, shift, values, y, bits):
                break
        ctx.save_for_backward(x, residual, mean, variance, scale, shift, slopes)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, residual, mean, variance, scale, shift, slopes = ctx.saved_tensors
        rows, count = _Rows(x), x.numel() // x.shape[1]
        if dy.stride() != x.stride():
            dy = torch.empty_like(x).copy_(dy)
        g = torch.empty_like(x)
        dx = g if residual is None else torch.empty_like(x)
        sums = torch.empty(2, rows.width, dtype=torch.float64)
        scales, shifts, means = rows.tile(scale), rows.tile(shift), rows.tile(mean)
        d_parameters = torch.empty(len(slopes) - 1, dtype=torch.float64)
        tensors = (x, residual, scales, shifts, means, slopes, dy, g, sums[0], sums[1], d_parameters)
        rows.call("nas_norm_slopes", *tensors, counts=(len(d_parameters),))
        d_bias, products = rows.fold(sums).float()  # the latter: sum of g * (x - mean)
        inverse = (variance + ctx.eps).rsqrt()
        d_weight = products * inverse
        # dx = weight * inverse * (g - mean of g - normalised x * mean of g * normalised x)
        b, d = -scale * d_bias / count, -scale * inverse * d_weight / count
        rows.call("nas_norm_backward", x, g, means, scales, rows.tile(b), rows.tile(d), dx)
        return dx, g if residual is not None else None, d_weight, d_bias, None, None, *d_parameters.float()


class _Rows:
    """A channels_last tensor as rows of channels, several pixels a row where there are few channels."""

    def __init__(self, x: Tensor) -> None:
        self.channels = x.shape[1]
        pixels = x.numel() // self.channels
        self.pixels = 1  # a row
        while self.channels * self.pixels < _WIDTH and pixels % (2 * self.pixels) == 0:
            self.pixels *= 2
        self.width = self.channels * self.pixels
        self.rows = pixels // self.pixels

    def tile(self, value: Tensor) -> Tensor:
        """A value a channel as a value a column."""
        return value.float().repeat(self.pixels)

    def fold(self, columns: Tensor) -> Tensor:
        """Sums of columns (..., width) as sums of channels (..., channels)."""
        return columns.view(*columns.shape[:-1], self.pixels, self.channels).sum(-2)

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and biased variance of each channel, float32."""
        found = torch.empty(2, self.width)
        self.call("nas_moments", x, found[0], found[1])
        means, variances = found.view(2, self.pixels, self.channels)
        mean = means.mean(0)
        return mean, variances.mean(0) + (means - mean).square().mean(0)

    def forward(
        self,
        x: Tensor,
        residual: Tensor | None,
        scale: Tensor,
        shift: Tensor,
        values: Tensor,
        y: Tensor,
        bits: range,
    ) -> bool:
        """Fill y; whether an input of the activation has a magnitude, other than 0, whose bits are not among these."""
        pointers = (x, residual, self.tile(scale), self.tile(shift), values, y)
        return bool(self.call("nas_norm_forward", *pointers, counts=(bits.start, len(bits))))

    def call(self, name: str, *tensors: Tensor | None, counts: tuple[int, ...] = ()) -> Any:
        pointers = (None if tensor is None else tensor.data_ptr() for tensor in tensors)
        return getattr(native.library(), name)(*pointers, *counts, self.rows, self.width)
