"""Softplus: an activation function, f(x) = softplus(x)

Softplus: Dugas et al. 2001.
"""

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def softplus(x: Tensor) -> Tensor:
    """The formula, pointwise; any shape, float32 or float64."""
    return F.softplus(x)


class Softplus(nn.Module):
    """f(x) = softplus(x)

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
        return softplus(wide).to(x.dtype)

    @torch.jit.unused
    def _fused(self, x: Tensor) -> Tensor:
        return self._plain(x) if torch.compiler.is_compiling() else _compiled()(self, x)


@functools.cache
def _compiled() -> Callable[..., Tensor]:
    return torch.compile(Softplus._plain, dynamic=True)


def check() -> None:
    """Compare values with those found in float64 when this was written, and gradients with finite differences."""
    x = torch.tensor([-3.1, -1.7, -0.6, -0.2, 0.3, 0.9, 1.8, 3.2], dtype=torch.float64)
    expected = torch.tensor(
        [
            0.0440639679386,
            0.167786029386,
            0.437487950486,
            0.598138869382,
            0.854355244469,
            1.24115387473,
            1.95297761053,
            3.23995333316,
        ],
        dtype=torch.float64,
    )
    torch.testing.assert_close(Softplus().double()(x), expected, rtol=1e-9, atol=1e-11, equal_nan=True)
    torch.testing.assert_close(Softplus()(x.float()).double(), expected, rtol=1e-4, atol=1e-5, equal_nan=True)
    x.requires_grad_()
    torch.autograd.gradcheck(softplus, (x,))
    torch.autograd.gradgradcheck(softplus, (x,))


if __name__ == "__main__":
    check()
    print("Softplus: values, gradients and second gradients are right")
