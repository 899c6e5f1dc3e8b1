"""Densely connected networks: Huang, Liu, van der Maaten, Weinberger 2017 (arXiv 1608.06993), section 3.

A dense layer appends k channels to its input: x_l = [x_{l-1}, H_l(x_{l-1})]. In DenseNet-BC, H is a bottleneck (BN,
act, 1x1 convolution to 4k channels, BN, act, 3x3 convolution to k), and between the three dense blocks are transitions
(BN, act, 1x1 convolution to the fraction theta = 0.5 of the channels, 2x2 average pooling; the activation is in the
authors' code, not in the text). The first 3x3 convolution has 2k channels; BN, activation, global average pooling and a
linear layer come last: 6n + 4 layers for n dense layers a block.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor, nn

from nas.modules.activations import NormAct
from trainers.models import ActFactory, ModelError, image_shape, models
from trainers.models.preact_resnet import blocks_per_stage, conv, initialize
from trainers.models.resnet import global_mean


class DenseLayer(nn.Module):
    """Input (N, C, H, W), output (N, C + growth, H, W) of which the first C channels are the input."""

    def __init__(self, act: ActFactory, in_channels: int, growth: int) -> None:
        super().__init__()
        self.bottleneck = nn.Sequential(NormAct(in_channels, act()), conv(in_channels, 4 * growth, 1))
        self.grow = nn.Sequential(NormAct(4 * growth, act()), conv(4 * growth, growth, 3))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((x, self.grow(self.bottleneck(x))), 1)


class Transition(nn.Module):
    """Input (N, C, H, W), output (N, C // 2, H // 2, W // 2)."""

    def __init__(self, act: ActFactory, in_channels: int) -> None:
        super().__init__()
        self.compress = nn.Sequential(NormAct(in_channels, act()), conv(in_channels, in_channels // 2, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(self.compress(x), 2)


class DenseNetBC(nn.Module):
    """Three dense blocks of n layers. Input (N, in_channels, H, W), output logits (N, num_classes)."""

    def __init__(self, act: ActFactory, in_channels: int, num_classes: int, n: int, growth: int) -> None:
        super().__init__()
        channels = 2 * growth
        self.stem = conv(in_channels, channels, 3)
        blocks: list[nn.Module] = []
        for block in range(3):
            if block > 0:
                blocks.append(Transition(act, channels))
                channels //= 2
            for _ in range(n):
                blocks.append(DenseLayer(act, channels, growth))
                channels += growth
        self.blocks = nn.Sequential(*blocks)
        self.last = NormAct(channels, act())
        self.head = nn.Linear(channels, num_classes)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(global_mean(self.last(self.blocks(self.stem(x)))))


def _build(
    name: str, act: ActFactory, input_shape: tuple[int, ...], num_outputs: int, layers: int, growth: int
) -> nn.Module:
    channels, height, width = image_shape(name, input_shape)
    if min(height, width) < 4:
        raise ModelError(f"{name} halves images twice and needs 4x4 pixels, got {height}x{width}; take larger images")
    return DenseNetBC(act, channels, num_outputs, blocks_per_stage(name, "layers", layers, 6, 4), growth)


@models.register("densenet_bc")
def densenet_bc(
    act: ActFactory,
    input_shape: tuple[int, ...],
    num_outputs: int,
    *,
    layers: PositiveInt = 100,
    growth: PositiveInt = 12,
) -> nn.Module:
    """DenseNet-BC (L = layers, k = growth); layers is 6n + 4: 10, 16, 22, ... 100, ... 190, 250."""
    return _build("densenet_bc", act, input_shape, num_outputs, layers, growth)


@models.register("densenet_bc_100_12")
def densenet_bc_100_12(act: ActFactory, input_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
    """DenseNet-BC (L = 100, k = 12), 0.8 M parameters on CIFAR-10."""
    return _build("densenet_bc_100_12", act, input_shape, num_outputs, 100, 12)
