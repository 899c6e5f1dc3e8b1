"""Residual networks for small images: He, Zhang, Ren, Sun 2015 (arXiv 1512.03385), section 4.2.

A 3x3 convolution, three stages of n basic blocks with width, 2 width and 4 width channels (the second and third start
with stride 2), global average pooling and a linear layer: 6n + 2 layers. Shortcuts have no parameters: where the shape
changes they take every second pixel and pad the channels with zeros (option A).
"""

from __future__ import annotations

import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor, nn

from nas.modules.activations import NormAct
from trainers.models import ActFactory, image_shape, models


class BasicBlock(nn.Module):
    """act(shortcut(x) + BN(conv(act(BN(conv(x))))))

    Input (N, in_channels, H, W), output (N, out_channels, H / stride, W / stride).
    """

    def __init__(self, act: ActFactory, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.norm_act1 = NormAct(out_channels, act())
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.norm_act2 = NormAct(out_channels, act())
        self.stride = stride
        self.new_channels = out_channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        return self.norm_act2(self.conv2(self.norm_act1(self.conv1(x))), self.shortcut(x))

    def shortcut(self, x: Tensor) -> Tensor:
        """Every second pixel, channels padded with zeros."""
        if self.stride != 1:
            x = F.avg_pool2d(x, 1, self.stride)  # a strided slice would turn the gradient out of channels_last
        before = self.new_channels // 2
        return F.pad(x, (0, 0, 0, 0, before, self.new_channels - before)) if self.new_channels else x


def global_mean(x: Tensor) -> Tensor:
    """Mean over height and width: (N, C, H, W) to (N, C)."""
    return F.avg_pool2d(x, x.shape[2:]).flatten(1)  # the gradient of x.mean((2, 3)) would not be channels_last


class ResNet(nn.Module):
    """ResNet of 6n + 2 layers for small images. Input (N, in_channels, H, W), output logits (N, num_classes)."""

    def __init__(self, act: ActFactory, in_channels: int, num_classes: int, n: int, width: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(in_channels, width, 3, 1, 1, bias=False), NormAct(width, act()))
        blocks = []
        channels = width
        for stage in range(3):
            for block in range(n):
                stride = 2 if stage > 0 and block == 0 else 1
                blocks.append(BasicBlock(act, channels, width * 2**stage, stride))
                channels = width * 2**stage
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(global_mean(self.blocks(self.stem(x))))


def _register(layers: int, note: str) -> None:
    @models.register(f"resnet{layers}")
    def build(act: ActFactory, input_shape: tuple[int, ...], num_outputs: int, *, width: PositiveInt = 16) -> nn.Module:
        channels, _, _ = image_shape(f"resnet{layers}", input_shape)
        return ResNet(act, channels, num_outputs, (layers - 2) // 6, width)

    build.__doc__ = f"{layers} layers{note}"


for _layers, _note in (
    (8, ", one block a stage: for quick searches."),
    (20, ", 0.27 M parameters on CIFAR-10: the child network of the 2017 search."),
    (32, "."),
    (44, "."),
    (56, "."),
    (110, ", 1.7 M parameters on CIFAR-10."),
):
    _register(_layers, _note)
