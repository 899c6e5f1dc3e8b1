"""Sin: an activation function, f(x) = sin(x)

sin.
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn


def sin(x: Tensor) -> Tensor:
    """The formula, pointwise; any shape, float32 or float64."""
    return torch.sin(x)


class Sin(nn.Module):
    """f(x) = sin(x)

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
        return sin(wide).to(x.dtype)

    @torch.jit.unused
    def _fused(self, x: Tensor) -> Tensor:
        return self._plain(x) if torch.compiler.is_compiling() else _compiled()(self, x)


@functools.cache
def _compiled() -> Callable[..., Tensor]:
    return torch.compile(Sin._plain, dynamic=True)


def check() -> None:
    """Compare values with those found in float64 when this was written, and gradients with finite differences."""
    x = torch.tensor([-3.1, -1.7, -0.6, -0.2, 0.3, 0.9, 1.8, 3.2], dtype=torch.float64)
    expected = torch.tensor(
        [
            -0.0415806624333,
            -0.991664810452,
            -0.564642473395,
            -0.198669330795,
            0.295520206661,
            0.783326909627,
            0.973847630878,
            -0.0583741434276,
        ],
        dtype=torch.float64,
    )
    torch.testing.assert_close(Sin().double()(x), expected, rtol=1e-9, atol=1e-11, equal_nan=True)
    torch.testing.assert_close(Sin()(x.float()).double(), expected, rtol=1e-4, atol=1e-5, equal_nan=True)
    x.requires_grad_()
    torch.autograd.gradcheck(sin, (x,))
    torch.autograd.gradgradcheck(sin, (x,))


if __name__ == "__main__":
    check()
    print("Sin: values, gradients and second gradients are right")
