"""Models that call activations as functions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


def of(forward, **parts):
    """A module class of this forward, with a linear layer and what else is given."""

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 4)
            for name, value in parts.items():
                setattr(self, name, value)

    Model.forward = forward
    return Model()


class Net(nn.Module):
    """What a tutorial would write, with dropout by function and a shortcut."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4, 3)
        self.shortcut = None

    def features(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.dropout(out, 0.5, training=self.training)
        if self.shortcut is not None:
            x = self.shortcut(x)
        return torch.relu(self.conv2(out) + x)

    def forward(self, x):
        return self.head(F.max_pool2d(self.features(x), x.shape[-1]).flatten(1))
