"""Models: parameter counts of the papers, one activation a site, shapes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainers.models import models


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def resnet_parameters(n: int, width: int, in_channels: int, classes: int) -> int:
    """Section 4.2 of arXiv 1512.03385 written out: 3x3 convolutions without bias, two values a norm channel."""
    total = 9 * in_channels * width + 2 * width
    channels = width
    for stage in range(3):
        for _ in range(n):
            out = width * 2**stage
            total += 9 * channels * out + 9 * out * out + 4 * out
            channels = out
    return total + channels * classes + classes


def test_resnet20_has_the_papers_parameters():
    """0.27 M in the paper; 269,722 counted layer by layer."""
    model = models.get("resnet20")(nn.ReLU, 3, 10)
    assert count(model) == resnet_parameters(3, 16, 3, 10) == 269_722


def test_resnet8_on_digits():
    model = models.get("resnet8")(nn.ReLU, 1, 10, width=8)
    assert count(model) == resnet_parameters(1, 8, 1, 10)
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


@pytest.mark.parametrize(("name", "layers"), [("resnet8", 8), ("resnet20", 20)])
def test_layers_and_sites(name, layers):
    """6n + 2 weighted layers, and an activation after every convolution, each made by its own call."""
    made = []

    def act() -> nn.Module:
        made.append(nn.ReLU())
        return made[-1]

    model = models.get(name)(act, 3, 10)
    weighted = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(weighted) == layers
    assert len(made) == layers - 1
    assert [m for m in model.modules() if isinstance(m, nn.ReLU)] == made


def test_shortcut_takes_every_second_pixel_and_pads_channels_with_zeros():
    """With convolutions of zero weight a block is its shortcut."""
    from trainers.models.resnet import BasicBlock

    block = BasicBlock(nn.Identity, 4, 8, 2).eval()
    for module in block.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.zeros_(module.weight)
    x = torch.randn(2, 4, 6, 6)
    expected = torch.zeros(2, 8, 3, 3)
    expected[:, 2:6] = x[:, :, ::2, ::2]
    torch.testing.assert_close(block(x), expected)


def test_unknown_model_suggests():
    with pytest.raises(KeyError, match="did you mean 'resnet20'"):
        models.get("resnet21")
