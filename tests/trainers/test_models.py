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


@pytest.mark.parametrize(("layers", "millions"), [(20, "0.27"), (32, "0.46"), (44, "0.66"), (56, "0.85"), (110, "1.7")])
def test_resnets_have_the_papers_parameters(layers, millions):
    """Table 6 of arXiv 1512.03385."""
    model = models.get(f"resnet{layers}")(nn.ReLU, (3, 32, 32), 10)
    assert count(model) == resnet_parameters((layers - 2) // 6, 16, 3, 10)
    digits = len(millions.split(".")[1])
    assert f"{count(model) / 1e6:.{digits}f}" == millions


def test_resnet8_on_digits():
    model = models.get("resnet8")(nn.ReLU, (1, 8, 8), 10, width=8)
    assert count(model) == resnet_parameters(1, 8, 1, 10)
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


@pytest.mark.parametrize(("name", "layers"), [("resnet8", 8), ("resnet20", 20), ("resnet110", 110)])
def test_layers_and_sites(name, layers):
    """6n + 2 weighted layers, and an activation after every convolution, each made by its own call."""
    made = []

    def act() -> nn.Module:
        made.append(nn.ReLU())
        return made[-1]

    model = models.get(name)(act, (3, 32, 32), 10)
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
        models.get("resnett20")
