"""Causal softmax attention as a function, with window, sinks and bias; it wraps torch's fused attention.

The T queries are always the last T of the S positions, as they are with a cache. (torch's own ``is_causal`` takes them
for the first ones.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


def attend(
    q: Float[Tensor, "batch heads queries size"],
    k: Float[Tensor, "batch kv_heads keys size"],
    v: Float[Tensor, "batch kv_heads keys value"],
    *,
    window: int | None = None,
    first: int = 0,
    bias: Float[Tensor, "#heads queries keys"] | None = None,
    sink_logits: Float[Tensor, " heads"] | None = None,
    scale: float | None = None,
) -> Float[Tensor, "batch heads queries value"]:
    """softmax(q k' scale + bias) v, where a query sees keys up to its own position.

    Whole texts with a window are done block by block, in time and memory linear in T (but not with a bias).

    Args:
        q, k, v: of one dtype; query head h reads key head h // (heads / kv_heads).
        window: a query sees only so many keys, its own included; None for all.
        first: so many first keys are seen beyond the window, too.
        bias: added to the scores.
        sink_logits: for each head the score of a key that is always there and whose value is 0, by which a head can
            attend to nothing (gpt-oss).
        scale: of the scores; None for 1 / sqrt(size).

    Returns:
        Same dtype as ``q``.

    Raises:
        ValueError: shapes that do not fit each other, more queries than keys, or a window below 1.
    """
    _check(q, k, v)
    if window is not None and window < 1:
        raise ValueError(f"window is at least 1 token, got {window}; None is for all")
    first = min(first, k.shape[-2])
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    if sink_logits is not None:
        q, k, v = _with_sink(q, k, v, sink_logits / scale)
        first += 1
        bias = None if bias is None else F.pad(bias, (1, 0))
    fused = _Fused(scale, q.shape[1] != k.shape[1])
    t, s = q.shape[-2], k.shape[-2]
    if window is not None and t > 2 * window and bias is None:
        return _attend_in_blocks(fused, q, k, v, window, first)
    if bias is None and (window is None or s - first <= window):
        return _attend_to_all(fused, q, k, v)
    mask = visible(t, s, window, first, q.device)
    if bias is not None:
        mask = torch.where(mask, bias, -torch.inf).to(q.dtype)
    return fused(q, k, v, mask)


def _check(q: Tensor, k: Tensor, v: Tensor) -> None:
    shapes = f"got queries {tuple(q.shape)}, keys {tuple(k.shape)} and values {tuple(v.shape)}"
    if not q.dim() == k.dim() == v.dim() == 4 or k.shape[:-1] != v.shape[:-1] or q.shape[0] != k.shape[0]:
        raise ValueError(f"all are (batch, heads, tokens, size), with a value for each key; {shapes}")
    if q.shape[-2] > k.shape[-2] or q.shape[1] % k.shape[1] or q.shape[-1] != k.shape[-1]:
        raise ValueError(
            f"queries are the last of the keys' positions, kv_heads divides heads, and both have one size; {shapes}"
        )


def visible(t: int, s: int, window: int | None, first: int, device: torch.device) -> Bool[Tensor, "queries keys"]:
    """Which of S keys each of the last T positions sees."""
    query = torch.arange(s - t, s, device=device)[:, None]
    key = torch.arange(s, device=device)
    seen = key <= query
    return seen if window is None else seen & ((key > query - window) | (key < first))


@dataclass(frozen=True)
class _Fused:
    """torch's fused attention.

    Attributes:
        scale: of the scores.
        grouped: whether several query heads share a key head. Not every kernel can do that, and with a mask hardly any,
            so it is asked where it must be, and with a mask keys and values are repeated.
    """

    scale: float
    grouped: bool

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        size = max(q.shape[-1], v.shape[-1])  # kernels want one size; else all scores would be held in memory
        value_size = v.shape[-1]
        q, k, v = (F.pad(x, (0, size - x.shape[-1])) if x.shape[-1] < size else x for x in (q, k, v))
        grouped = self.grouped and mask is None
        if self.grouped and not grouped:
            k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
        y = F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal, scale=self.scale, enable_gqa=grouped)
        return y[..., :value_size]


def _attend_to_all(fused: _Fused, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention without window."""
    t, s = q.shape[-2], k.shape[-2]
    if t == 1:
        return fused(q, k, v)
    if t == s:
        return fused(q, k, v, causal=True)
    if s - t < t:  # fused attention without a mask is worth some queries that nobody asked for
        return fused(F.pad(q, (0, 0, s - t, 0)), k, v, causal=True)[..., s - t :, :]
    return fused(q, k, v, visible(t, s, None, 0, q.device))


def _with_sink(q: Tensor, k: Tensor, v: Tensor, score: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A first key, whose product with every query is ``score`` (heads,), by channels that are 0 for all other keys."""
    groups = q.shape[1] // k.shape[1]
    width = -(-groups // 8) * 8  # fused kernels want multiples of 8 channels
    # Query head r of a group has its 1 in extra channel r, where the group's sink has that head's score.
    ones = torch.eye(groups, width, dtype=q.dtype, device=q.device).repeat(k.shape[1], 1)
    q = torch.cat((q, ones[None, :, None].expand(*q.shape[:-1], -1)), -1)
    sink = F.pad(score.unflatten(0, (-1, groups)), (k.shape[-1], width - groups)).to(k.dtype)
    k = torch.cat((sink[None, :, None].expand(k.shape[0], -1, -1, -1), F.pad(k, (0, width))), -2)
    return q, k, F.pad(v, (0, 0, 1, 0))


def _attend_in_blocks(fused: _Fused, q: Tensor, k: Tensor, v: Tensor, window: int, first: int) -> Tensor:
    """Sliding window: blocks of ``window`` queries, each with its own keys, those of the block before and the first."""
    (n, h, t, _), s, b = q.shape, k.shape[-2], window
    blocks = -(-t // b)
    before = s - first - t  # keys between the first ones and the first query; negative if queries are among the first
    reach = b - 1  # keys before a block that it sees

    def windows(x: Tensor) -> Tensor:
        """(blocks, N kv_heads, first + reach + b, channels)."""
        head, rest = x[..., :first, :], x[..., first:, :]
        rest = F.pad(rest, (0, 0, reach - before, blocks * b - t))  # a negative pad drops keys that nobody sees
        rest = rest.unfold(-2, reach + b, b).movedim(2, 0).transpose(-1, -2)  # (blocks, N, kv_heads, reach + b, ...)
        return torch.cat((head.expand(blocks, *head.shape), rest), -2).flatten(1, 2)

    queries = F.pad(q, (0, 0, 0, blocks * b - t)).unflatten(-2, (blocks, b)).movedim(2, 0).flatten(1, 2)
    block = torch.arange(blocks, device=q.device)[:, None, None] * b + before  # among the keys that are not first
    query = block + torch.arange(b, device=q.device)[:, None]
    key = block + torch.arange(-reach, b, device=q.device)
    near = (key >= 0) & (key <= query) & (key > query - window)
    far = (torch.arange(first, device=q.device) <= query + first).expand(blocks, b, first)
    mask = torch.cat((far, near), -1)[:, None]  # (blocks, 1, b, first + reach + b)
    y = fused(queries, windows(k), windows(v), mask)
    return y.unflatten(1, (n, h)).movedim(0, 2).flatten(2, 3)[..., :t, :]
