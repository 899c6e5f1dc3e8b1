"""SinOverCosh: an activation function, f(x) = sin(x) / (cosh(x) + 1e-05)

sin / cosh: found by nas, docs/studies.
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn


def sinovercosh(x: Tensor) -> Tensor:
    """The formula, pointwise; any shape, float32 or float64."""
    return torch.sin(x) / (torch.cosh(x) + 1e-05)


class SinOverCosh(nn.Module):
    """f(x) = sin(x) / (cosh(x) + 1e-05)

    Narrower dtypes than float32 are computed in float32 and rounded once.

    Args:
        fused: compile it by torch.compile at the first call: one kernel forward and one backward, which keep x
            alone in memory. Not needed in a model that is compiled as a whole, and not differentiable twice.

    Input and output: any shape, any floating dtype.
    """

    def __init__(self, fused: bool = False) -> None:
        super().__init__()
        self.fused = fused

    def forward(self, x: Tensor) -> Tensor:
        if self.fused and not torch.jit.is_scripting():
            return self._fused(x)
        return self._plain(x)

    def _plain(self, x: Tensor) -> Tensor:
        wide = x if x.dtype == torch.float64 else x.float()
        return sinovercosh(wide).to(x.dtype)

    @torch.jit.unused
    def _fused(self, x: Tensor) -> Tensor:
        return self._plain(x) if torch.compiler.is_compiling() else _compiled()(self, x)


@functools.cache
def _compiled() -> Callable[..., Tensor]:
    return torch.compile(SinOverCosh._plain, dynamic=True)


def check() -> None:
    """Compare values with those found in float64 when this was written, and gradients with finite differences."""
    x = torch.tensor([-3.1, -1.7, -0.6, -0.2, 0.3, 0.9, 1.8, 3.2], dtype=torch.float64)
    expected = torch.tensor(
        [
            -0.00373876043171,
            -0.350619058951,
            -0.476300528856,
            -0.194759197973,
            0.282700173834,
            0.54659750564,
            0.313387901277,
            -0.00475101951864,
        ],
        dtype=torch.float64,
    )
    torch.testing.assert_close(SinOverCosh().double()(x), expected, rtol=1e-9, atol=1e-11, equal_nan=True)
    torch.testing.assert_close(SinOverCosh()(x.float()).double(), expected, rtol=1e-4, atol=1e-5, equal_nan=True)
    x.requires_grad_()
    torch.autograd.gradcheck(sinovercosh, (x,))
    torch.autograd.gradgradcheck(sinovercosh, (x,))


if __name__ == "__main__":
    check()
    print("SinOverCosh: values, gradients and second gradients are right")
