"""Attention that can go on for ever: a few first tokens, a window, positions within the cache.

Xiao et al. 2023, "Efficient Streaming Language Models with Attention Sinks" (arXiv 2309.17453), section 3.2. A model
trained with plain causal attention collapses when its first tokens leave a sliding window, because its heads dump what
attention they do not need on them. So they stay, and positions are counted within what is kept: they never exceed
sink_tokens + window - 1, however long the text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from nas.modules.cache import append, check_kept, check_kind, forget
from nas.modules.heads import Heads
from nas.modules.rope import RotaryEmbedding
from nas.modules.softmax_attention import attend

if TYPE_CHECKING:
    from jaxtyping import Float


class SinkCache(NamedTuple):
    """Keys and values of what later tokens see, as a value: whoever continues from it leaves it as it is.

    Attributes:
        k, v: (N, kv_heads, S, size), of at most sink_tokens + window - 1 tokens; keys are not rotated.
        length: tokens so far, forgotten ones included.
    """

    k: Tensor
    v: Tensor
    length: int


class SinkAttention(nn.Module):
    """Causal self-attention to the last ``window`` and the first ``sink_tokens`` tokens, (N, T, dim) to (N, T, dim).

    Its weights are those of :class:`nas.modules.attention.Attention` of the same sizes, so that a trained model's
    ``state_dict`` loads. Time and memory are linear in T.

    Args:
        dim, heads, kv_heads, head_dim, rope, bias: see :class:`nas.modules.attention.Attention`.
        window: how many tokens a query sees, its own included.
        sink_tokens: how many first tokens it sees beyond them; 4 in the paper.

    Raises:
        ValueError: sizes that do not fit each other.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        window: int,
        sink_tokens: int = 4,
        kv_heads: int | None = None,
        head_dim: int | None = None,
        rope: RotaryEmbedding | None = None,
        bias: bool = False,
    ) -> None:
        super().__init__()
        if window < 1 or sink_tokens < 0:
            raise ValueError(f"window is at least 1 token and sink_tokens at least 0, got {window} and {sink_tokens}")
        self.heads = Heads(dim, heads, kv_heads, head_dim, bias)
        self.heads.check_rope(rope)
        self.rope = rope
        self.window = window
        self.sink_tokens = sink_tokens

    def forward(self, x: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch tokens dim"]:
        """Whole texts; the same as token by token. Raises ValueError for another shape."""
        y, _ = self.stream(x, None)
        return y

    def stream(
        self, x: Float[Tensor, "batch tokens dim"], cache: SinkCache | None
    ) -> tuple[Float[Tensor, "batch tokens dim"], SinkCache]:
        """The next T >= 1 tokens of texts of which ``cache`` holds the beginning; None at the start.

        Raises:
            ValueError: x has another shape, or the cache is of other sizes, window, batch, dtype or device.
        """
        check_kind(cache, SinkCache)
        if cache is not None:
            check_kept(cache.k.shape[-2], cache.length, self.sink_tokens + self.window - 1)
        q, k, v = self.heads.split(x)
        k, v = append(cache, k, v)
        end = x.shape[1] if cache is None else cache.length + x.shape[1]
        cache = SinkCache(*forget(k, v, self.window, self.sink_tokens), end)
        if self.rope is not None:
            q, k = self._rotate(self.rope, q, k, end)
        y = attend(q, k, v, window=self.window, first=self.sink_tokens, scale=self.heads.size**-0.5)
        return self.heads.merge(y), cache

    def _rotate(self, rope: RotaryEmbedding, q: Tensor, k: Tensor, end: int) -> tuple[Tensor, Tensor]:
        """Queries and keys by their places among the keys.

        If the texts are longer than what is kept, a query's distance to the sinks is not that of the places. It is then
        turned twice, for the window and for the sinks, and the keys of one are 0 in the channels of the other.
        """
        t, s = q.shape[-2], k.shape[-2]
        most = self.sink_tokens + self.window
        length = min(end, most)
        near = rope(q, s - t, length)
        k = rope(k, 0, length)
        if s <= most or not self.sink_tokens:
            return near, k
        far = rope(q, torch.arange(end - t, end, device=q.device).clamp(max=most - 1), length)
        is_sink = (torch.arange(s, device=k.device) < self.sink_tokens)[:, None]
        return torch.cat((near, far), -1), torch.cat((k.masked_fill(is_sink, 0), k.masked_fill(~is_sink, 0)), -1)
