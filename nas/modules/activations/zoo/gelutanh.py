"""GELUtanh: an activation function, f(x) = 0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x ** 3)))

GELU (tanh): Hendrycks and Gimpel 2016, arXiv 1606.08415.
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn


def gelutanh(x: Tensor) -> Tensor:
    """The formula, pointwise; any shape, float32 or float64."""
    return (0.5 * x) * (1 + torch.tanh(0.7978845608028654 * (x + (0.044715 * torch.pow(x, 3)))))


class GELUtanh(nn.Module):
    """f(x) = 0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x ** 3)))

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
        return gelutanh(wide).to(x.dtype)

    @torch.jit.unused
    def _fused(self, x: Tensor) -> Tensor:
        return self._plain(x) if torch.compiler.is_compiling() else _compiled()(self, x)


@functools.cache
def _compiled() -> Callable[..., Tensor]:
    return torch.compile(GELUtanh._plain, dynamic=True)


def check() -> None:
    """Compare values with those found in float64 when this was written, and gradients with finite differences."""
    x = torch.tensor([-3.1, -1.7, -0.6, -0.2, 0.3, 0.9, 1.8, 3.2], dtype=torch.float64)
    expected = torch.tensor(
        [
            -0.00262661023055,
            -0.0758941044488,
            -0.164584800769,
            -0.0841485702179,
            0.185370923543,
            0.73422848871,
            1.73525952685,
            3.19813043484,
        ],
        dtype=torch.float64,
    )
    torch.testing.assert_close(GELUtanh().double()(x), expected, rtol=1e-9, atol=1e-11, equal_nan=True)
    torch.testing.assert_close(GELUtanh()(x.float()).double(), expected, rtol=1e-4, atol=1e-5, equal_nan=True)
    x.requires_grad_()
    torch.autograd.gradcheck(gelutanh, (x,))
    torch.autograd.gradgradcheck(gelutanh, (x,))


if __name__ == "__main__":
    check()
    print("GELUtanh: values, gradients and second gradients are right")
