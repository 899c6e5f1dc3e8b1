"""Small versions of the model families, and an activation that remembers what it was given."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainers.models import models

PREACT = ("preact_resnet", {"layers": 20, "width": 4})
WIDE = ("wide_resnet", {"depth": 10, "k": 2, "dropout": 0.1})
DENSE = ("densenet_bc", {"layers": 16, "growth": 4})
VIT = ("vit_tiny", {"dim": 16, "depth": 2, "heads": 2, "patch": 2})
GPT = ("gpt", {"dim": 16, "depth": 2, "heads": 2})
IMAGE_MODELS = [PREACT, WIDE, DENSE, VIT]
SITES = [(PREACT, 19), (WIDE, 7), (DENSE, 15), (VIT, 2)] + [
    (("gpt", GPT[1] | {"ffn": kind}), 2) for kind in ("plain", "gated", "binary")
]


class Site(nn.Module):
    """a * sigmoid(a), or a * sigmoid(b); remembers its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, a: Tensor, b: Tensor | None = None) -> Tensor:
        self.seen.append(a)
        return a * torch.sigmoid(a if b is None else b)


def build(spec, act=nn.SiLU, shape=(3, 8, 8), outputs=10):
    """The small model of a specification, and an input for it."""
    name, options = spec
    torch.manual_seed(0)
    if name == "gpt":
        return models.get(name)(act, (12,), 256, **options), torch.randint(256, (2, 12))
    return models.get(name)(act, shape, outputs, **options), torch.randn(2, *shape)


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())
