"""A memory of keys and values of constant size: the state of linear attention and of Infini-attention.

Katharopoulos et al. 2020, "Transformers are RNNs" (arXiv 2006.16236), section 3: with a positive feature map s,
    M = sum_t s(k_t)' v_t,  z = sum_t s(k_t),  read(q) = s(q) M / (s(q) z'),
which is attention with weights s(q) s(k_t)' that add up to 1. The paper's s is ELU + 1.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from jaxtyping import Float


Update = Literal["linear", "delta"]


class Memory(NamedTuple):
    """The memory, float32 (float64 for float64 models), as a value: writing gives a new one.

    Attributes:
        m: (N, kv_heads, size, value) sums of feature times value.
        z: (N, kv_heads, size) sums of features.
    """

    m: Tensor
    z: Tensor


class EluPlusOne(nn.Module):
    """ELU(x) + 1 > 0, as exp(x) below 0, where 1 + (exp(x) - 1) would round to 0 from x = -17 on."""

    def forward(self, x: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
        """Same shape and dtype."""
        return x.relu() + x.masked_fill(x > 0, 0).exp()


def empty_memory(
    k: Float[Tensor, "batch kv_heads tokens size"], v: Float[Tensor, "batch kv_heads tokens value"]
) -> Memory:
    """Zeros, for keys and values like these."""
    dtype = torch.promote_types(k.dtype, torch.float32)
    m = torch.zeros(*k.shape[:2], k.shape[-1], v.shape[-1], dtype=dtype, device=k.device)
    return Memory(m, m[..., 0].clone())


def read(memory: Memory, q: Float[Tensor, "batch heads tokens size"]) -> Float[Tensor, "batch heads tokens value"]:
    """s(q) M / (s(q) z') for features s(q) in the memory's dtype; 0 where there is nothing, as in an empty memory.

    Query head h reads memory h // (heads / kv_heads).
    """
    heads, groups = q.shape[1], memory.z.shape[1]
    q = q.reshape(q.shape[0], groups, -1, q.shape[-1])  # (N, kv_heads, heads / kv_heads * T, size)
    y = divide(q @ memory.m, q @ memory.z[..., None])
    return y.unflatten(2, (heads // groups, -1)).flatten(1, 2)


def write(
    memory: Memory,
    k: Float[Tensor, "batch kv_heads tokens size"],
    v: Float[Tensor, "batch kv_heads tokens value"],
    *,
    delta: bool = False,
) -> Memory:
    """The memory with features s(k) and values added: Munkhdalai et al. 2024 (arXiv 2404.07143), equations 4 and 5.

    Args:
        k, v: in the memory's dtype.
        delta: add only what the memory did not give for these keys before, v - read(k). What is written to an empty
            memory a second time then leaves M as it is.
    """
    new = v - read(memory, k) if delta else v
    return Memory(memory.m + k.transpose(-1, -2) @ new, memory.z + k.sum(-2))


def divide(numerator: Float[Tensor, "*any value"], denominator: Float[Tensor, "*any 1"]) -> Float[Tensor, "*any value"]:
    """The quotient; 0, with gradients of 0, where the denominator is below 3.6e-29 (float32; 1.8e-231 in float64).

    Denominators are sums of positive features. Smaller ones, which are as good as none, give infinite gradients.
    """
    empty = denominator <= torch.finfo(denominator.dtype).tiny ** 0.75
    return (numerator / denominator.masked_fill(empty, 1)).masked_fill(empty, 0)


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """A region where autocast does not lower the precision of products."""
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)
