"""What all attentions share: the projections to the heads of queries, keys and values, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from nas.modules.positions import check_channels
from nas.modules.rope import RotaryEmbedding

if TYPE_CHECKING:
    from jaxtyping import Float


class Heads(nn.Module):
    """Queries (N, heads, T, size), keys and values (N, kv_heads, T, size) of x (N, T, dim), in one product.

    With fewer heads of keys and values than of queries (grouped queries: Ainslie et al. 2023, arXiv 2305.13245) query
    head h reads key head h // (heads / kv_heads).

    Args:
        dim: channels of the model.
        heads: query heads.
        kv_heads: heads of keys and values, a divisor of ``heads``; None for as many.
        size: channels of a head; None for dim / heads.
        bias: whether the projections have biases.
    """

    def __init__(
        self, dim: int, heads: int, kv_heads: int | None = None, size: int | None = None, bias: bool = False
    ) -> None:
        super().__init__()
        kv_heads = heads if kv_heads is None else kv_heads
        if heads < 1 or kv_heads < 1 or heads % kv_heads:
            raise ValueError(
                f"kv_heads divides heads, both at least 1, got {kv_heads} and {heads}; every key head serves equally "
                "many query heads"
            )
        if size is None and dim % heads:
            raise ValueError(f"heads divides dim, got {heads} and {dim}; name the size of a head, or take another dim")
        if dim < 1 or (size is not None and size < 1):
            raise ValueError(f"dim and the size of a head are at least 1, got {dim} and {size}")
        self.dim = dim
        self.heads = heads
        self.kv_heads = kv_heads
        self.size = dim // heads if size is None else size
        self.qkv = nn.Linear(dim, (heads + 2 * kv_heads) * self.size, bias=bias)
        self.out = nn.Linear(heads * self.size, dim, bias=bias)

    def check_rope(self, rope: RotaryEmbedding | None) -> None:
        """Raises ValueError unless a rotation is for heads of this size."""
        if rope is not None and rope.dim != self.size:
            raise ValueError(f"heads have {self.size} channels, got RotaryEmbedding({rope.dim}); make it {self.size}")

    def split(
        self, x: Float[Tensor, "batch tokens dim"]
    ) -> tuple[
        Float[Tensor, "batch heads tokens size"],
        Float[Tensor, "batch kv_heads tokens size"],
        Float[Tensor, "batch kv_heads tokens size"],
    ]:
        """Queries, keys, values. Raises ValueError unless x is (batch, tokens, dim)."""
        check_channels("attention", x, self.dim)
        all_heads = self.qkv(x).unflatten(-1, (-1, self.size)).transpose(1, 2)  # (N, heads + 2 kv_heads, T, size)
        q, k, v = all_heads.split((self.heads, self.kv_heads, self.kv_heads), 1)
        return q, k, v

    def merge(self, y: Float[Tensor, "batch heads tokens size"]) -> Float[Tensor, "batch tokens dim"]:
        """The heads' results side by side, and the last projection."""
        return self.out(y.transpose(1, 2).flatten(2))
