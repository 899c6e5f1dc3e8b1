"""What attention remembers of a text, keys and values of its tokens, and checks of what is given as such."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor


class KVCache(NamedTuple):
    """Attention's keys and values of the tokens so far, as a value: whoever continues from it leaves it as it is.

    Attributes:
        k, v: (N, kv_heads, S, size), keys rotated (unless the rotation depends on the length); with a window only what
            later tokens see.
        length: tokens so far, forgotten ones included.
    """

    k: Tensor
    v: Tensor
    length: int


def append(cache: Any, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """The keys and values of a cache, None for none, followed by new ones (N, kv_heads, T, size).

    Raises:
        ValueError: other batch, heads, size, dtype or device than the cache's.
    """
    if cache is None:
        return k, v
    check_fits("the cache", cache.k, k)
    return torch.cat((cache.k, k), -2), torch.cat((cache.v, v), -2)


def forget(k: Tensor, v: Tensor, window: int | None, first: int = 0) -> tuple[Tensor, Tensor]:
    """Keys and values (N, kv_heads, S, size) without those that no later token sees.

    Args:
        window: tokens that a query sees, its own included; None for all.
        first: tokens at the start that are always seen.
    """
    s = k.shape[-2]
    if window is None or s < first + window:
        return k, v
    newest = s - window + 1

    def kept(x: Tensor) -> Tensor:
        return torch.cat((x[..., :first, :], x[..., newest:, :]), -2)  # a copy: a view would keep the rest in memory

    return kept(k), kept(v)


def check_kind(state: object, kind: type) -> None:
    """Raises ValueError unless a state is None or of the kind that a module makes."""
    if state is not None and not isinstance(state, kind):
        raise ValueError(
            f"the state of this module is a {kind.__name__}, got a {type(state).__name__}; give it the state that the "
            "same module made, or begin a new text with None"
        )


def check_kept(kept: int, length: int, most: int | None) -> None:
    """Raises ValueError unless a cache keeps as many tokens of a text as a module with this window would."""
    expected = length if most is None else min(length, most)
    if kept != expected:
        raise ValueError(
            f"after {length} tokens this module's cache keeps {expected}, got one with {kept}, of another window; "
            "continue with the module that made it, or begin a new text with None"
        )


def check_fits(name: str, kept: Tensor, new: Tensor) -> None:
    """Raises ValueError unless tensors (N, heads, tokens, size) differ in tokens alone."""
    alike = kept.shape[:2] == new.shape[:2] and kept.shape[3:] == new.shape[3:]
    if not (alike and kept.dtype == new.dtype and kept.device == new.device):
        raise ValueError(
            f"{name} has the shape {tuple(kept.shape)}, {kept.dtype}, on {kept.device}; the new tokens need, but for "
            f"their number, {tuple(new.shape)}, {new.dtype}, on {new.device}; begin a new text with None"
        )
