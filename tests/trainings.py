"""A tiny data set and a tiny trial, for tests that train."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from trainers.data import Images, hold_out
from trainers.trial import Component, Recipe, Trial


def images(n: int = 64, **augmentation: Any) -> Images:
    """Random pixels in four classes: three quarters for training."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (n, 3, 8, 8), generator=generator, dtype=torch.uint8)
    return hold_out(x, torch.arange(n) % 4, 0.25, **augmentation)


def trial(**changes: Any) -> Trial:
    """SiLU in a ResNet-8 on digits for two epochs, unless changed."""
    base = Trial(
        id=1,
        stage="search",
        expression="x * sigmoid(x)",
        seed=3,
        model=Component("resnet8", {"width": 4}),
        data=Component("digits"),
        recipe=Recipe(batch_size=128, learning_rate=0.1),
        budget_epochs=2,
    )
    return dataclasses.replace(base, **changes)
