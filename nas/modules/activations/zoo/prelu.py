"""PReLU: an activation function, f(x) = max(x, 0) + beta * min(x, 0)

PReLU: He et al. 2015, arXiv 1502.01852, beta from 0.25.
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn


def prelu(x: Tensor, beta: Tensor) -> Tensor:
    """The formula, pointwise; any shape, float32 or float64."""
    return torch.clamp(x, min=0.0) + (beta * torch.clamp(x, max=0.0))


class PReLU(nn.Module):
    """f(x) = max(x, 0) + beta * min(x, 0)

    Learnable: beta; they start at 1. Narrower dtypes than float32 are computed in float32 and rounded once.

    Args:
        num_parameters: 1 for values shared by all channels, or the number of channels for one value a channel.
        channel_dim: the input's dimension that holds the channels (1 for images, -1 for transformers).
        fused: compile it by torch.compile at the first call: one kernel forward and one backward, which keep x
            alone in memory. Not needed in a model that is compiled as a whole, and not differentiable twice.

    Input and output: any shape, any floating dtype.
    """

    def __init__(self, num_parameters: int = 1, channel_dim: int = 1, fused: bool = False) -> None:
        super().__init__()
        self.num_parameters = num_parameters
        self.channel_dim = channel_dim
        self.fused = fused
        self.beta = nn.Parameter(torch.ones(num_parameters))

    def forward(self, x: Tensor) -> Tensor:
        if self.fused and not torch.jit.is_scripting():
            return self._fused(x)
        return self._plain(x)

    def _plain(self, x: Tensor) -> Tensor:
        wide = x if x.dtype == torch.float64 else x.float()
        return prelu(wide, self._shaped(self.beta, wide)).to(x.dtype)

    @torch.jit.unused
    def _fused(self, x: Tensor) -> Tensor:
        return self._plain(x) if torch.compiler.is_compiling() else _compiled()(self, x)

    def _shaped(self, parameter: Tensor, x: Tensor) -> Tensor:
        shape = [1] * x.dim()
        if self.num_parameters > 1:
            shape[self.channel_dim] = self.num_parameters
        return parameter.to(x.dtype).view(shape)

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}, channel_dim={self.channel_dim}"


@functools.cache
def _compiled() -> Callable[..., Tensor]:
    return torch.compile(PReLU._plain, dynamic=True)


def check() -> None:
    """Compare values with those found in float64 when this was written, and gradients with finite differences."""
    x = torch.tensor([-3.1, -1.7, -0.6, -0.2, 0.3, 0.9, 1.8, 3.2], dtype=torch.float64)
    expected = torch.tensor(
        [
            -3.1,
            -1.7,
            -0.6,
            -0.2,
            0.3,
            0.9,
            1.8,
            3.2,
        ],
        dtype=torch.float64,
    )
    torch.testing.assert_close(PReLU().double()(x), expected, rtol=1e-9, atol=1e-11, equal_nan=True)
    torch.testing.assert_close(PReLU()(x.float()).double(), expected, rtol=1e-4, atol=1e-5, equal_nan=True)
    x.requires_grad_()
    p0 = torch.tensor([0.7], dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(prelu, (x, p0))
    torch.autograd.gradgradcheck(prelu, (x, p0))


if __name__ == "__main__":
    check()
    print("PReLU: values, gradients and second gradients are right")
