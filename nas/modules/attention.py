"""Causal multi-head attention with a cache, and what one may want with it: groups, a window, sinks, positions.

Vaswani et al. 2017 (arXiv 1706.03762), section 3.2; grouped queries (Ainslie et al. 2023, arXiv 2305.13245); rotary
positions (:mod:`nas.modules.rope`), ALiBi or T5's bias (:mod:`nas.modules.positions`); sliding window (Beltagy et al.
2020, arXiv 2004.05150); learned sink logits (OpenAI 2025, gpt-oss).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from nas.modules.cache import KVCache, append, check_kept, check_kind, forget
from nas.modules.heads import Heads
from nas.modules.rope import RotaryEmbedding
from nas.modules.softmax_attention import attend

if TYPE_CHECKING:
    from jaxtyping import Float


class Attention(nn.Module):
    """Causal self-attention, (N, T, dim) to (N, T, dim) of the same dtype.

    Args:
        dim: channels.
        heads: query heads.
        kv_heads: heads of keys and values, a divisor of ``heads``; None for as many.
        head_dim: channels of a head; None for dim / heads.
        rope: rotary positions of size ``head_dim``; None for none.
        score_bias: a module that turns distances int64 (T, S) into a bias (heads, T, S), such as AlibiBias(heads).
            Memory then grows with T S.
        window: how many tokens a query sees, its own included; None for all.
        learned_sinks: whether each head learns the score of an empty token, ``sink_logits`` (heads,), from 0.
        bias: whether the projections have biases.

    Raises:
        ValueError: sizes that do not fit each other.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        kv_heads: int | None = None,
        head_dim: int | None = None,
        rope: RotaryEmbedding | None = None,
        score_bias: nn.Module | None = None,
        window: int | None = None,
        learned_sinks: bool = False,
        bias: bool = False,
    ) -> None:
        super().__init__()
        if window is not None and window < 1:
            raise ValueError(f"window is at least 1 token, got {window}; None is for all")
        if score_bias is not None and not isinstance(score_bias, nn.Module):
            raise ValueError(f"score_bias is a module such as AlibiBias({heads}), got {score_bias!r}")
        self.heads = Heads(dim, heads, kv_heads, head_dim, bias)
        self.heads.check_rope(rope)
        self.rope = rope
        self.score_bias = score_bias
        self.window = window
        self.sink_logits = nn.Parameter(torch.zeros(heads)) if learned_sinks else None

    def forward(self, x: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch tokens dim"]:
        """Whole texts. Raises ValueError for another shape."""
        y, _ = self.stream(x, None)
        return y

    def stream(
        self, x: Float[Tensor, "batch tokens dim"], cache: KVCache | None
    ) -> tuple[Float[Tensor, "batch tokens dim"], KVCache]:
        """The next T >= 1 tokens of texts of which ``cache`` holds the beginning; None at the start.

        Token by token, in pieces or whole, a text gives the same. (Not with a rotation that depends on the length, as
        dynamic NTK's: it turns a piece as for the length at the piece's end.)

        Raises:
            ValueError: x has another shape, or the cache is of other sizes, window, batch, dtype or device.
        """
        check_kind(cache, KVCache)
        if cache is not None:
            check_kept(cache.k.shape[-2], cache.length, None if self.window is None else self.window - 1)
        q, k, v = self.heads.split(x)
        start = 0 if cache is None else cache.length
        end = start + x.shape[1]
        rope = self.rope
        if rope is not None and not rope.needs_length:
            table = rope.table(q, start)
            q, k = rope.rotate(q, table), rope.rotate(k, table)
        k, v = append(cache, k, v)
        cache = KVCache(*forget(k, v, self.window), end)
        oldest = end - k.shape[-2]  # the position of the first key
        if rope is not None and rope.needs_length:  # each new length turns all keys anew, so the cache's are not turned
            q, k = rope(q, start, end), rope(k, oldest, end)
        bias = None
        if self.score_bias is not None:
            query, key = (torch.arange(begin, end, device=x.device) for begin in (start, oldest))
            bias = self._bias(self.score_bias, query[:, None] - key)
        y = attend(q, k, v, window=self.window, bias=bias, sink_logits=self.sink_logits)
        return self.heads.merge(y), cache

    def _bias(self, score_bias: nn.Module, distance: Tensor) -> Tensor:
        bias: Tensor = score_bias(distance)
        if bias.shape != (self.heads.heads, *distance.shape):
            raise ValueError(
                f"score_bias gives (heads, queries, keys) = {(self.heads.heads, *distance.shape)}, got "
                f"{tuple(bias.shape)}; make it for {self.heads.heads} heads"
            )
        return bias
