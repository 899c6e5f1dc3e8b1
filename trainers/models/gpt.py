"""A small decoder for text, to try activations and gates in the feed-forward part of a transformer.

Blocks with a norm before each part (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners"),
    x' = x + attention(RMSNorm(x)),  x'' = x' + FFN(RMSNorm(x')),
RMSNorm (Zhang, Sennrich 2019, arXiv 1910.07467), rotary positions (Su et al. 2021, arXiv 2104.09864, equation 15, with
the pairs (i, i + d/2)) and no biases. The FFN (Shazeer 2020, arXiv 2002.05202) is
    plain: act(x W) W2,   gated: (act(x W) * x V) W2,   binary: act(x W, x V) W2;
the latter two have 2/3 of the plain one's hidden size and so as many parameters. The head has weights of its own, not
the embedding's: for an alphabet of 256 bytes they cost little, and the first predictions are then almost uniform.
Weights start from N(0, 0.02), those at the end of a residual branch from N(0, 0.02 / sqrt(2 depth)), as in GPT-2.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from trainers.models import ActFactory, ModelError, models, text_length

Ffn = Literal["plain", "gated", "binary"]


def rotations(length: int, size: int, base: float) -> Tensor:
    """cos and sin of m * base^(-2i / size), float64 (2, length, size / 2) for positions m and pairs i."""
    pair = torch.arange(size // 2, dtype=torch.float64)
    angle = torch.outer(torch.arange(length, dtype=torch.float64), base ** (-2 * pair / size))
    return torch.stack((angle.cos(), angle.sin()))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the pairs (x_i, x_{i + d/2}) by their angles: x (..., T, d), cos and sin (T, d / 2)."""
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), -1)


class Rope(nn.Module):
    """Rotary positions 0, 1, ... T - 1, rotated in float32. Input (N, heads, T, size) of any dtype, output likewise."""

    bits: Tensor

    def __init__(self, length: int, size: int, base: float) -> None:
        super().__init__()
        # The bits of a float32 table, as integers: they follow the module from device to device, but .to(bfloat16) and
        # its kin, which would round positions beyond use, leave integers alone.
        self.register_buffer("bits", rotations(length, size, base).float().view(torch.int32), persistent=False)

    def table(self) -> Tensor:
        """cos and sin, float32 (2, length, size / 2)."""
        return self.bits.view(torch.float32)

    def forward(self, x: Tensor) -> Tensor:
        cos, sin = self.table()[:, : x.shape[-2]]
        return rotate(x.float(), cos, sin).to(x.dtype)


class Attention(nn.Module):
    """Causal attention with rotated queries and keys. Input and output (N, T, dim)."""

    def __init__(self, dim: int, heads: int, rope: Rope) -> None:
        super().__init__()
        self.heads = heads
        self.rope = rope
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        n, t, dim = x.shape
        qkv = self.qkv(x).view(n, t, 3, self.heads, dim // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (N, heads, T, dim / heads)
        y = F.scaled_dot_product_attention(self.rope(q), self.rope(k), v, is_causal=True)
        return self.out(y.transpose(1, 2).reshape(n, t, dim))


def gate_size(dim: int) -> int:
    """Hidden size that gives three matrices the parameters of two with 4 dim: 2/3 of it, up to a multiple of 8."""
    return math.ceil(8 * dim // 3 / 8) * 8


class FeedForward(nn.Module):
    """Input and output (N, T, dim). ``act()`` gives a module of two tensors if ``kind`` is binary, of one otherwise."""

    def __init__(self, act: ActFactory, dim: int, kind: Ffn) -> None:
        super().__init__()
        self.kind = kind
        hidden = 4 * dim if kind == "plain" else gate_size(dim)
        self.w = nn.Linear(dim, hidden, bias=False)
        self.v = None if kind == "plain" else nn.Linear(dim, hidden, bias=False)
        self.act = act()
        self.out = nn.Linear(hidden, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.flatten(0, 1)  # (N T, dim): activations look for channels in dimension 1
        if self.v is None:
            hidden = self.act(self.w(rows))
        elif self.kind == "gated":
            hidden = self.act(self.w(rows)) * self.v(rows)
        else:
            hidden = self.act(self.w(rows), self.v(rows))
        return self.out(hidden).view_as(x)


class Block(nn.Module):
    """Input and output (N, T, dim)."""

    def __init__(self, act: ActFactory, dim: int, heads: int, ffn: Ffn, rope: Rope) -> None:
        super().__init__()
        self.norm1 = nn.RMSNorm(dim, eps=1e-6)
        self.attention = Attention(dim, heads, rope)
        self.norm2 = nn.RMSNorm(dim, eps=1e-6)
        self.ffn = FeedForward(act, dim, ffn)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.ffn(self.norm2(x))


class GPT(nn.Module):
    """Input tokens int64 (N, T) with T <= context, output logits (N, T, vocabulary) of the next one.

    Raises:
        ModelError: ``heads`` does not divide ``dim`` into heads of an even size, or a forward pass is given more tokens
            than ``context``.
    """

    def __init__(
        self,
        act: ActFactory,
        context: int,
        vocabulary: int,
        dim: int,
        depth: int,
        heads: int,
        ffn: Ffn,
        base: float,
    ) -> None:
        super().__init__()
        if dim % (2 * heads):
            raise ModelError(
                f"rotary positions turn pairs of a head's channels, so model.dim is a multiple of 2 model.heads; got "
                f"{dim} and {heads}; take model.dim={2 * heads * max(1, dim // (2 * heads))}"
            )
        self.context = context
        self.embed = nn.Embedding(vocabulary, dim)
        rope = Rope(context, dim // heads, base)
        self.blocks = nn.Sequential(*(Block(act, dim, heads, ffn, rope) for _ in range(depth)))
        self.norm = nn.RMSNorm(dim, eps=1e-6)
        self.head = nn.Linear(dim, vocabulary, bias=False)
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                std = 0.02 / math.sqrt(2 * depth) if name.endswith(".out") else 0.02
                nn.init.normal_(module.weight, std=std)

    def forward(self, tokens: Tensor) -> Tensor:
        if tokens.shape[1] > self.context:
            raise ModelError(
                f"gpt was built for {self.context} tokens, got {tokens.shape[1]}; shorten them, or build it for more"
            )
        return self.head(self.norm(self.blocks(self.embed(tokens))))


@models.register("gpt")
def gpt(
    act: ActFactory,
    input_shape: tuple[int, ...],
    num_outputs: int,
    *,
    dim: PositiveInt = 128,
    depth: PositiveInt = 4,
    heads: PositiveInt = 4,
    ffn: Ffn = "plain",
    base: Annotated[float, Field(gt=1)] = 10_000.0,
) -> nn.Module:
    """A decoder of ``depth`` blocks; ``ffn`` is plain, gated or binary (an activation of two inputs as the gate)."""
    context = text_length("gpt", input_shape)
    return GPT(act, context, num_outputs, dim, depth, heads, ffn, base)
