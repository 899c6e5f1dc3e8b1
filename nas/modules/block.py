"""Blocks of a transformer: a mixer of tokens and a feed-forward part, with shortcuts and norms in one of three orders.

    pre     x <- x + f(norm(x))                    Pre-LN: Xiong et al. 2020 (arXiv 2002.04745)
    post    x <- norm(x + f(x))                    Post-LN: Vaswani et al. 2017 (arXiv 1706.03762), section 3.1
    dual    x <- norm(x + f(x)),  r <- r + f(x)    ResiDual: Xie et al. 2023 (arXiv 2304.14802)

A model ends with norm(x), x, or x + norm(r).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Protocol

from torch import Tensor, nn

from nas.modules.norm import NormFactory, RMSNorm

if TYPE_CHECKING:
    from jaxtyping import Float

Order = Literal["pre", "post", "dual"]
Stream = tuple[Tensor, Tensor | None]
"""x, and the second residual r of the order dual, None in the others."""


class Mixer(Protocol):
    """What a block needs of an attention. TransformerLM gives a last projection called ``out`` smaller weights."""

    def __call__(self, x: Tensor) -> Tensor:
        """Whole texts (N, T, dim)."""
        ...

    def stream(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """The next tokens (N, T, dim) after those in ``state``, None at the start; and the state after them."""
        ...


class TransformerBlock(nn.Module):
    """A mixer and a feed-forward part, each with a norm and a shortcut.

    Args:
        dim: channels.
        mixer: Attention, SinkAttention, InfiniAttention, LinearAttention, or any other :class:`Mixer`.
        feed_forward: a module (N, T, dim) to (N, T, dim).
        norm: makes a norm of ``dim`` channels.
        order: pre, post or dual.

    Raises:
        ValueError: an unknown order.
    """

    def __init__(
        self, dim: int, mixer: nn.Module, feed_forward: nn.Module, *, norm: NormFactory = RMSNorm, order: Order = "pre"
    ) -> None:
        super().__init__()
        if order not in ("pre", "post", "dual"):
            raise ValueError(f"order is pre, post or dual, got {order!r}")
        self.dim = dim
        self.order = order
        self.norm1 = norm(dim)
        self.mixer: Any = mixer
        self.norm2 = norm(dim)
        self.feed_forward = feed_forward

    def forward(
        self, x: Float[Tensor, "batch tokens dim"], r: Float[Tensor, "batch tokens dim"] | None = None
    ) -> tuple[Float[Tensor, "batch tokens dim"], Float[Tensor, "batch tokens dim"] | None]:
        """Whole texts: x and r after the block. ``r`` is None but in the order dual, where None begins with r = x."""
        return self._run(x, r, self.mixer)

    def stream(self, x: Tensor, r: Tensor | None, state: Any) -> tuple[Tensor, Tensor | None, Any]:
        """The next tokens, with the mixer's state before and after them."""

        def mixer(h: Tensor) -> Tensor:
            nonlocal state
            y, state = self.mixer.stream(h, state)
            return y

        return *self._run(x, r, mixer), state

    def _run(self, x: Tensor, r: Tensor | None, mixer: Callable[[Tensor], Tensor]) -> Stream:
        if self.order == "dual" and r is None:
            r = x
        for norm, part in ((self.norm1, mixer), (self.norm2, self.feed_forward)):
            if self.order == "pre":
                x = x + part(norm(x))
                continue
            y = part(x)
            x = norm(x + y)
            r = None if r is None else r + y
        return x, r
