"""Feed-forward parts with any activation: plain, gated, or with a gate that is a function of two.

Shazeer 2020, "GLU Variants Improve Transformer" (arXiv 2002.05202), equations 1, 5 and 6:

    plain    act(x W) W2
    gated    (act(x W) * x V) W2        GLU: sigmoid; ReGLU: ReLU; GEGLU: GELU; SwiGLU: SiLU; bilinear: identity
    binary   act(x W, x V) W2           any discovered function of two, or ClampedSwiGLU

The last two have three matrices; with 2/3 of the hidden size they have the parameters of the first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from jaxtyping import Float

ActFactory = Callable[[], nn.Module]
"""Makes an activation; called once for each place, so that learnable parameters are never shared by accident."""

Kind = Literal["plain", "gated", "binary"]


def make(act: ActFactory) -> nn.Module:
    """A new activation. Raises ValueError for an activation in place of what makes one."""
    if isinstance(act, nn.Module):
        raise ValueError(
            f"an activation is made for each place, so give what makes it, such as nn.SiLU, not nn.SiLU(); got a "
            f"{type(act).__name__}"
        )
    return act()


class FeedForward(nn.Module):
    """(..., dim) to (..., dim) of the same dtype.

    The activation is given (rows, hidden), so that one with a parameter a channel finds its channels in dimension 1.

    Args:
        dim: channels.
        act: makes the activation, a module of one tensor, or of two if ``kind`` is binary.
        kind: plain, gated or binary.
        hidden: hidden size; None for 4 dim (plain) or 2/3 of it.
        multiple_of: of which the hidden size is a multiple, rounded up; only where ``hidden`` is None.
        bias: whether the projections have biases.

    Raises:
        ValueError: an unknown kind, or sizes below 1.
    """

    def __init__(
        self,
        dim: int,
        act: ActFactory,
        *,
        kind: Kind = "plain",
        hidden: int | None = None,
        multiple_of: int = 8,
        bias: bool = False,
    ) -> None:
        super().__init__()
        if kind not in ("plain", "gated", "binary"):
            raise ValueError(f"kind is plain, gated or binary, got {kind!r}")
        if dim < 1 or multiple_of < 1 or (hidden is not None and hidden < 1):
            raise ValueError(f"dim, hidden and multiple_of are at least 1, got {dim}, {hidden} and {multiple_of}")
        hidden = hidden_size(dim, kind, multiple_of) if hidden is None else hidden
        self.dim = dim
        self.kind = kind
        self.w = nn.Linear(dim, hidden, bias=bias)
        self.v = None if kind == "plain" else nn.Linear(dim, hidden, bias=bias)
        self.act = make(act)
        self.out = nn.Linear(hidden, dim, bias=bias)

    def forward(self, x: Float[Tensor, "... dim"]) -> Float[Tensor, "... dim"]:
        """Each position by itself. Raises ValueError for another number of channels."""
        if x.shape[-1] != self.dim:
            raise ValueError(f"FeedForward takes (..., {self.dim}), got {tuple(x.shape)}")
        rows = x.reshape(-1, self.dim)
        if self.v is None:
            hidden = self.act(self.w(rows))
        elif self.kind == "gated":
            hidden = self.act(self.w(rows)) * self.v(rows)
        else:
            hidden = self.act(self.w(rows), self.v(rows))
        return self.out(hidden).view(x.shape)


def hidden_size(dim: int, kind: Kind, multiple_of: int = 8) -> int:
    """4 dim for plain; int(2/3 * 4 dim) for the others; up to a multiple."""
    size = 4 * dim if kind == "plain" else 8 * dim // 3
    return -(-size // multiple_of) * multiple_of


class ClampedSwiGLU(nn.Module):
    """g sigmoid(alpha g) (u + 1) with g <= limit and |u| <= limit: the gate of gpt-oss (OpenAI 2025).

    Args:
        alpha: 1.702 makes g sigmoid(alpha g) a GELU.
        limit: g has no lower one.
    """

    def __init__(self, alpha: float = 1.702, limit: float = 7.0) -> None:
        super().__init__()
        self.alpha = alpha
        self.limit = limit

    def forward(self, g: Float[Tensor, "*any"], u: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
        """Same shape and dtype; for ``FeedForward(dim, ClampedSwiGLU, kind="binary")``."""
        g = g.clamp(max=self.limit)
        u = u.clamp(-self.limit, self.limit)
        return g * torch.sigmoid(self.alpha * g) * (u + 1)
