"""A vision transformer for small images: Dosovitskiy et al. 2020 (arXiv 2010.11929), equations 1 to 4.

Patches of the image become tokens by a linear map, learned positions are added, then come blocks
    z' = z + MSA(LN(z)),  z'' = z' + MLP(LN(z')),  MLP(z) = W2 act(W1 z + b1) + b2,
a last LN, and a linear layer. The widths are those of DeiT-Ti (Touvron et al. 2020, arXiv 2012.12877), and so is the
initialisation: weights and positions from a normal distribution with deviation 0.02, truncated, biases at zero. The
logits are read from the mean of the tokens, not from a class token; appendix D.3 of the first paper finds both equal,
each at its own learning rate.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor, nn

from trainers.models import ActFactory, ModelError, image_shape, models


class Attention(nn.Module):
    """Every token sees every token. Input and output (N, T, dim)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        n, t, dim = x.shape
        qkv = self.qkv(x).view(n, t, 3, self.heads, dim // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (N, heads, T, dim / heads)
        y = F.scaled_dot_product_attention(q, k, v)
        return self.out(y.transpose(1, 2).reshape(n, t, dim))


class Block(nn.Module):
    """Attention and MLP, each with a norm before and a shortcut around it. Input and output (N, T, dim)."""

    def __init__(self, act: ActFactory, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attention = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.fc1 = nn.Linear(dim, hidden)
        self.act = act()
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        rows = self.norm2(x).flatten(0, 1)  # (N T, dim): activations look for channels in dimension 1
        return x + self.fc2(self.act(self.fc1(rows))).view_as(x)


class ViT(nn.Module):
    """Input (N, channels, height, width), output logits (N, num_classes).

    Raises:
        ModelError: ``patch`` does not divide height and width, or ``heads`` does not divide ``dim``.
    """

    def __init__(
        self,
        act: ActFactory,
        image: tuple[int, int, int],
        num_classes: int,
        dim: int,
        depth: int,
        heads: int,
        patch: int,
        hidden: int,
    ) -> None:
        super().__init__()
        channels, height, width = image
        if height % patch or width % patch:
            raise ModelError(
                f"patches tile the image, got model.patch={patch} for {height}x{width} pixels; take a divisor of "
                f"{math.gcd(height, width)}"
            )
        if dim % heads:
            near = heads * max(1, dim // heads)
            raise ModelError(f"model.heads divides model.dim, got {heads} and {dim}; take model.dim={near}")
        self.embed = nn.Conv2d(channels, dim, patch, patch)
        self.positions = nn.Parameter(torch.empty(1, (height // patch) * (width // patch), dim))
        self.blocks = nn.Sequential(*(Block(act, dim, heads, hidden) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.head = nn.Linear(dim, num_classes)
        nn.init.trunc_normal_(self.positions, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x).flatten(2).transpose(1, 2)  # (N, T, dim)
        return self.head(self.norm(self.blocks(tokens + self.positions)).mean(1))


@models.register("vit_tiny")
def vit_tiny(
    act: ActFactory,
    input_shape: tuple[int, ...],
    num_outputs: int,
    *,
    dim: PositiveInt = 192,
    depth: PositiveInt = 12,
    heads: PositiveInt = 3,
    patch: PositiveInt = 4,
    mlp_ratio: PositiveInt = 4,
) -> nn.Module:
    """ViT with the widths of DeiT-Ti, 5.4 M parameters on CIFAR-10; the MLP's hidden size is mlp_ratio * dim."""
    image = image_shape("vit_tiny", input_shape)
    return ViT(act, image, num_outputs, dim, depth, heads, patch, mlp_ratio * dim)
