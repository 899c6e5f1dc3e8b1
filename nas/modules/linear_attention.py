"""Linear attention and the fast-weight programmer: causal attention whose state has constant size.

Katharopoulos et al. 2020 (arXiv 2006.16236), section 3, and Schlag, Irie, Schmidhuber 2021, "Linear Transformers Are
Secretly Fast Weight Programmers" (arXiv 2102.11174), section 4. Token by token, with features s,

    linear     M <- M + s(k)' v,  z <- z + s(k),             y = s(q) M / (s(q) z')
    delta      M <- M + b f(k)' (v - f(k) M),                y = f(q) M,  f = s / sum(s),  b = sigmoid(x w)

Whole texts are computed in chunks: products of matrices inside, the state from one to the next. What the delta rule
writes in a chunk solves a triangular system (Yang et al. 2024, arXiv 2406.06484, section 3).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from nas.modules.cache import check_fits, check_kind
from nas.modules.feed_forward import make
from nas.modules.heads import Heads
from nas.modules.memory import EluPlusOne, Memory, Update, divide, empty_memory, full_precision

if TYPE_CHECKING:
    from jaxtyping import Float


class LinearAttention(nn.Module):
    """Causal linear attention, (N, T, dim) to (N, T, dim) of the same dtype, in time linear in T.

    Features, memory and products with them are float32 under autocast and in modules of lower precision, too.

    Args:
        dim: channels.
        heads: query heads.
        kv_heads: heads of keys and values, a divisor of ``heads``; None for as many.
        head_dim: channels of a head; None for dim / heads.
        update: the rule, linear or delta.
        feature: makes the feature map s, an activation that is positive; parameters that it has are scalars.
        chunk: tokens that are computed at once. A compiled text of T tokens has T / chunk copies of the code.
        bias: whether the projections have biases.

    Raises:
        ValueError: sizes that do not fit each other, or an unknown rule.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        kv_heads: int | None = None,
        head_dim: int | None = None,
        update: Update = "linear",
        feature: Callable[[], nn.Module] = EluPlusOne,
        chunk: int = 64,
        bias: bool = False,
    ) -> None:
        super().__init__()
        if update not in ("linear", "delta") or chunk < 1:
            raise ValueError(f"update is linear or delta, chunk at least 1; got {update!r} and {chunk}")
        self.heads = Heads(dim, heads, kv_heads, head_dim, bias)
        self.feature = make(feature)
        self.strength = nn.Linear(dim, self.heads.kv_heads) if update == "delta" else None
        self.chunk = chunk

    def forward(self, x: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch tokens dim"]:
        """Whole texts. Raises ValueError for another shape."""
        y, _ = self.stream(x, None)
        return y

    def stream(
        self, x: Float[Tensor, "batch tokens dim"], memory: Memory | None
    ) -> tuple[Float[Tensor, "batch tokens dim"], Memory]:
        """The next T >= 1 tokens of texts that left ``memory`` behind; None at the start.

        Raises:
            ValueError: x has another shape, or the memory is of other sizes, batch, dtype or device.
        """
        check_kind(memory, Memory)
        q, k, v = self.heads.split(x)
        strength = None if self.strength is None else self.strength(x).sigmoid().transpose(1, 2)[..., None]
        with full_precision(x.device):
            empty = empty_memory(k, v)
            if memory is not None:
                check_fits("the memory", memory.m, empty.m)
            memory = memory or empty
            dtype = empty.m.dtype
            s_q, s_k = self.feature(q.to(dtype)), self.feature(k.to(dtype))
            parts = [s_q, s_k, v.to(dtype)]
            if strength is not None:
                s_q, s_k = (divide(s, s.sum(-1, keepdim=True)) for s in (s_q, s_k))
                parts = [s_q, s_k, v.to(dtype), strength.to(dtype)]
            rule: Callable[..., tuple[Tensor, Memory]] = _linear if strength is None else _delta
            outs = []
            for chunk in zip(*(part.split(self.chunk, -2) for part in parts), strict=True):
                y, memory = rule(memory, *chunk)
                outs.append(y)
        return self.heads.merge(torch.cat(outs, -2).to(q.dtype)), memory


def _linear(memory: Memory, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Memory]:
    groups = k.shape[1]
    q = q.unflatten(1, (groups, -1))  # (N, kv_heads, heads / kv_heads, T, size)
    k, v, m, z = (x.unsqueeze(2) for x in (k, v, *memory))
    weights = (q @ k.transpose(-1, -2)).tril()
    above = weights @ v + q @ m
    below = weights.sum(-1, keepdim=True) + q @ z[..., None]
    new = Memory(memory.m + (k.transpose(-1, -2) @ v)[:, :, 0], memory.z + k[:, :, 0].sum(-2))
    return divide(above, below).flatten(1, 2), new


def _delta(memory: Memory, q: Tensor, k: Tensor, v: Tensor, strength: Tensor) -> tuple[Tensor, Memory]:
    """What is written for token t, u_t = b_t (v_t - f(k_t) M_t), depends on the writes before it in the chunk:
    (1 + tril(b K K', -1)) U = b (V - K M)."""
    overlap = strength * (k @ k.transpose(-1, -2))
    system = overlap.tril(-1) + torch.eye(k.shape[-2], dtype=k.dtype, device=k.device)
    writes = torch.linalg.solve_triangular(system, strength * (v - k @ memory.m), upper=False, unitriangular=True)
    grouped = q.unflatten(1, (k.shape[1], -1))
    weights = (grouped @ k.unsqueeze(2).transpose(-1, -2)).tril()
    y = weights @ writes.unsqueeze(2) + grouped @ memory.m.unsqueeze(2)
    return y.flatten(1, 2), Memory(memory.m + k.transpose(-1, -2) @ writes, memory.z + k.sum(-2))
