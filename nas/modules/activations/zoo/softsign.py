"""Softsign: an activation function, f(x) = softsign(x)

softsign: Turian, Bergstra and Bengio 2009.
"""

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def softsign(x: Tensor) -> Tensor:
    """The formula, pointwise; any shape, float32 or float64."""
    return F.softsign(x)


class Softsign(nn.Module):
    """f(x) = softsign(x)

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
        return softsign(wide).to(x.dtype)

    @torch.jit.unused
    def _fused(self, x: Tensor) -> Tensor:
        return self._plain(x) if torch.compiler.is_compiling() else _compiled()(self, x)


@functools.cache
def _compiled() -> Callable[..., Tensor]:
    return torch.compile(Softsign._plain, dynamic=True)


def check() -> None:
    """Compare values with those found in float64 when this was written, and gradients with finite differences."""
    x = torch.tensor([-3.1, -1.7, -0.6, -0.2, 0.3, 0.9, 1.8, 3.2], dtype=torch.float64)
    expected = torch.tensor(
        [
            -0.756097560976,
            -0.62962962963,
            -0.375,
            -0.166666666667,
            0.230769230769,
            0.473684210526,
            0.642857142857,
            0.761904761905,
        ],
        dtype=torch.float64,
    )
    torch.testing.assert_close(Softsign().double()(x), expected, rtol=1e-9, atol=1e-11, equal_nan=True)
    torch.testing.assert_close(Softsign()(x.float()).double(), expected, rtol=1e-4, atol=1e-5, equal_nan=True)
    x.requires_grad_()
    torch.autograd.gradcheck(softsign, (x,))
    torch.autograd.gradgradcheck(softsign, (x,))


if __name__ == "__main__":
    check()
    print("Softsign: values, gradients and second gradients are right")
