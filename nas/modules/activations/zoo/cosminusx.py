"""CosMinusX: an activation function, f(x) = cos(x) - x

2017: cos(x) - x: Ramachandran, Zoph and Le 2017, arXiv 1710.05941.
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn


def cosminusx(x: Tensor) -> Tensor:
    """The formula, pointwise; any shape, float32 or float64."""
    return torch.cos(x) - x


class CosMinusX(nn.Module):
    """f(x) = cos(x) - x

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
        return cosminusx(wide).to(x.dtype)

    @torch.jit.unused
    def _fused(self, x: Tensor) -> Tensor:
        return self._plain(x) if torch.compiler.is_compiling() else _compiled()(self, x)


@functools.cache
def _compiled() -> Callable[..., Tensor]:
    return torch.compile(CosMinusX._plain, dynamic=True)


def check() -> None:
    """Compare values with those found in float64 when this was written, and gradients with finite differences."""
    x = torch.tensor([-3.1, -1.7, -0.6, -0.2, 0.3, 0.9, 1.8, 3.2], dtype=torch.float64)
    expected = torch.tensor(
        [
            2.10086484973,
            1.5711555057,
            1.42533561491,
            1.18006657784,
            0.655336489126,
            -0.278390031729,
            -2.02720209469,
            -4.19829477579,
        ],
        dtype=torch.float64,
    )
    torch.testing.assert_close(CosMinusX().double()(x), expected, rtol=1e-9, atol=1e-11, equal_nan=True)
    torch.testing.assert_close(CosMinusX()(x.float()).double(), expected, rtol=1e-4, atol=1e-5, equal_nan=True)
    x.requires_grad_()
    torch.autograd.gradcheck(cosminusx, (x,))
    torch.autograd.gradgradcheck(cosminusx, (x,))


if __name__ == "__main__":
    check()
    print("CosMinusX: values, gradients and second gradients are right")
