"""Model families: parameter counts of the papers, activation sites, what convolutional networks must (not) do."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from nas.modules.activations import NormAct
from tests.small_models import DENSE, GPT, IMAGE_MODELS, PREACT, SITES, VIT, WIDE, Site, build, count
from trainers.models import ModelError, models
from trainers.models.densenet import DenseLayer, Transition
from trainers.models.preact_resnet import PreActBlock


def conv(kernel: int, inputs: int, outputs: int) -> int:
    return kernel**2 * inputs * outputs


def norm(channels: int) -> int:
    return 2 * channels


def preact_parameters(n: int) -> int:
    """arXiv 1603.05027, bottlenecks of 1x1, 3x3 and 1x1 convolutions, on CIFAR-10."""
    total, channels = conv(3, 3, 16), 16
    for out in (64, 128, 256):
        total += conv(1, channels, out)
        for _ in range(n):
            mid = out // 4
            total += norm(channels) + conv(1, channels, mid) + norm(mid) + conv(3, mid, mid) + norm(mid)
            total += conv(1, mid, out)
            channels = out
    return total + norm(256) + 256 * 10 + 10


def wide_parameters(n: int, k: int) -> int:
    """Table 1 of arXiv 1605.07146, on CIFAR-10."""
    total, channels = conv(3, 3, 16), 16
    for out in (16 * k, 32 * k, 64 * k):
        total += conv(1, channels, out)
        for _ in range(n):
            total += norm(channels) + conv(3, channels, out) + norm(out) + conv(3, out, out)
            channels = out
    return total + norm(64 * k) + 64 * k * 10 + 10


def dense_parameters(n: int, k: int) -> int:
    """Section 3 of arXiv 1608.06993, DenseNet-BC on CIFAR-10."""
    total, channels = conv(3, 3, 2 * k), 2 * k
    for block in range(3):
        for _ in range(n):
            total += norm(channels) + conv(1, channels, 4 * k) + norm(4 * k) + conv(3, 4 * k, k)
            channels += k
        if block < 2:
            total += norm(channels) + conv(1, channels, channels // 2)
            channels //= 2
    return total + norm(channels) + channels * 10 + 10


def vit_parameters(dim: int, depth: int) -> int:
    """arXiv 2010.11929, patches of 4x4 in 32x32 pixels: 64 tokens; an MLP of four times the width."""
    attention = (dim * 3 * dim + 3 * dim) + (dim * dim + dim)
    mlp = (dim * 4 * dim + 4 * dim) + (4 * dim * dim + dim)
    block = norm(dim) + attention + norm(dim) + mlp
    return (48 * dim + dim) + 64 * dim + depth * block + norm(dim) + dim * 10 + 10


@pytest.mark.parametrize(
    ("name", "parameters", "published", "sites"),
    [
        ("preact_resnet164", preact_parameters(18), "1.7", 163),  # table 2 of arXiv 1608.06993
        ("preact_resnet", preact_parameters(18), "1.7", 163),
        ("wrn28_10", wide_parameters(4, 10), "36.5", 25),  # these two: table 4 of arXiv 1605.07146
        ("wrn40_4", wide_parameters(6, 4), "8.9", 37),
        ("wrn10_4", wide_parameters(1, 4), "1.2", 7),  # computed, not published
        ("densenet_bc_100_12", dense_parameters(16, 12), "0.8", 99),  # table 2 of arXiv 1608.06993
        ("densenet_bc_100_12", 769_162, "0.8", 99),
        ("vit_tiny", vit_parameters(192, 12), "5.4", 12),
    ],
)
def test_parameters_and_sites_of_the_full_models(name, parameters, published, sites):
    made = []
    with torch.device("meta"):
        model = models.get(name)(lambda: made.append(nn.ReLU()) or made[-1], (3, 32, 32), 10)
    assert count(model) == parameters
    assert f"{parameters / 1e6:.1f}" == published
    assert len(made) == sites


@pytest.mark.parametrize(
    ("name", "layers"),
    [("wrn28_10", 28), ("wrn40_4", 40), ("preact_resnet164", 164 + 3 - 1), ("densenet_bc_100_12", 100 - 1)],
)
def test_convolutions_are_as_many_as_the_name_says(name, layers):
    """Wide ResNets count their projections and not the linear layer, the others the other way round."""
    with torch.device("meta"):
        model = models.get(name)(nn.ReLU, (3, 32, 32), 10)
    assert sum(isinstance(m, nn.Conv2d) for m in model.modules()) == layers


@pytest.mark.parametrize(("spec", "sites"), SITES)
def test_every_site_is_a_module_of_its_own_used_once(spec, sites):
    made = []
    model, x = build(spec, lambda: made.append(Site()) or made[-1])
    model(x)
    assert [len(site.seen) for site in made] == [1] * sites
    assert [m for m in model.modules() if isinstance(m, Site)] == made


@pytest.mark.parametrize("spec", [spec for spec, _ in SITES])
def test_gradient_reaches_every_parameter(spec):
    model, x = build(spec, Site)
    model(x).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@pytest.mark.parametrize("spec", [spec for spec, _ in SITES])
def test_activations_work_in_the_dtype_of_autocast(spec):
    made = []
    model, x = build(spec, lambda: made.append(Site()) or made[-1])
    with torch.autocast("cpu", torch.bfloat16):
        model(x)
    assert {site.seen[0].dtype for site in made} == {torch.bfloat16}


@pytest.mark.parametrize("spec", [VIT, GPT])
def test_channels_of_a_transformers_activation_are_in_dimension_1(spec):
    """Where nn.PReLU, and our learnable parameters, look for them."""
    model, x = build(spec, lambda: nn.PReLU(64))
    model(x).sum().backward()
    assert [m.weight.grad.shape for m in model.modules() if isinstance(m, nn.PReLU)] == [(64,), (64,)]


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (2, 12, 20)])
@pytest.mark.parametrize("spec", IMAGE_MODELS)
def test_images_of_any_size_and_channels(spec, shape):
    model, x = build(spec, shape=shape, outputs=7)
    assert model(x).shape == (2, 7)


@pytest.mark.parametrize("spec", [PREACT, WIDE, DENSE])
def test_gradients_stay_channels_last(spec):
    """Channels vary fastest in the gradient of every module's output."""
    model, x = build(spec, shape=(3, 16, 16))
    strides = []

    def watch(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if output.dim() == 4:
            output.register_hook(lambda gradient: strides.append(gradient.stride(1)))

    for module in model.modules():
        module.register_forward_hook(watch)
    model.to(memory_format=torch.channels_last)
    model(x.contiguous(memory_format=torch.channels_last)).square().sum().backward()
    assert set(strides) == {1}


@pytest.mark.parametrize("name", [n for n in models.names() if n != "gpt"])
def test_image_models_refuse_text(name):
    with pytest.raises(ModelError, match=f"{name} reads images, got text"):
        models.get(name)(nn.ReLU, (64,), 256)


def test_gpt_refuses_images():
    with pytest.raises(ModelError, match="gpt reads text, got images"):
        models.get("gpt")(nn.ReLU, (3, 8, 8), 10)


@pytest.mark.parametrize(
    ("name", "options", "shape", "message"),
    [
        ("preact_resnet", {"layers": 100}, (3, 8, 8), r"9n \+ 2 layers .* got model.layers=100; take 101"),
        ("preact_resnet", {"layers": 2}, (3, 8, 8), "take 11"),
        ("wide_resnet", {"depth": 27}, (3, 8, 8), r"6n \+ 4 layers .* got model.depth=27; take 28"),
        ("densenet_bc", {"layers": 41}, (3, 8, 8), "take 40"),
        ("densenet_bc", {}, (1, 3, 8), "needs 4x4 pixels, got 3x8"),
        ("vit_tiny", {"patch": 5}, (3, 32, 20), "model.patch=5 for 32x20 pixels; take a divisor of 4"),
        ("vit_tiny", {"dim": 100, "heads": 3}, (3, 8, 8), "got 3 and 100; take model.dim=99"),
        ("gpt", {"dim": 100, "heads": 3}, (8,), "heads 100 and 3; take model.dim=96"),
        ("gpt", {"dim": 12, "heads": 4}, (8,), "heads 12 and 4; take model.dim=8"),
    ],
)
def test_impossible_options_are_refused_with_the_fix(name, options, shape, message):
    with pytest.raises(ModelError, match=message):
        models.get(name)(nn.ReLU, shape, 10, **options)


def test_options_from_yaml_are_validated():
    assert models.check("gpt", {"ffn": "gated", "base": "5e5"}) == ({"ffn": "gated", "base": 500_000.0}, [])
    for name, options in (("gpt", {"ffn": "swiglu"}), ("wrn28_10", {"dropout": 1.0}), ("vit_tiny", {"depth": 0})):
        assert len(models.check(name, options)[1]) == 1


def test_a_preact_block_of_one_shape_is_its_input_where_the_residual_is_zero():
    block = PreActBlock(nn.ReLU, 8, (2, 2, 8), (1, 3, 1), 1)
    nn.init.zeros_(block.residual[-1].weight)
    x = torch.randn(2, 8, 4, 4)
    assert torch.equal(block(x), x)


def test_a_widening_preact_block_projects_the_activated_input():
    block = PreActBlock(nn.ReLU, 3, (6, 6), (3, 3), 2).eval()
    nn.init.zeros_(block.residual[-1].weight)
    x = torch.randn(2, 3, 4, 4)
    pixels = x[:, :, ::2, ::2].relu() / math.sqrt(1 + block.preact.norm.eps)
    torch.testing.assert_close(block(x), torch.einsum("oc,nchw->nohw", block.project.weight[:, :, 0, 0], pixels))


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_wide_resnets_drop_out_between_the_convolutions(dropout):
    model = models.get("wrn10_4")(nn.ReLU, (3, 8, 8), 10, dropout=dropout)
    between = [nn.Dropout] if dropout else []
    for block in model.blocks:
        kinds = [type(m) for m in block.residual]
        assert kinds == [nn.Conv2d, NormAct, *between, nn.Conv2d]
    assert {m.p for m in model.modules() if isinstance(m, nn.Dropout)} == ({dropout} if dropout else set())


def test_a_dense_layer_keeps_its_input():
    x = torch.randn(2, 6, 4, 4)
    y = DenseLayer(nn.ReLU, 6, 5)(x)
    assert y.shape == (2, 11, 4, 4)
    assert torch.equal(y[:, :6], x)


def test_a_transition_takes_the_mean_of_four_pixels():
    layer = Transition(nn.Identity, 6).eval()
    x = torch.randn(2, 6, 4, 4)
    pixels = x.view(2, 6, 2, 2, 2, 2).mean((3, 5)) / math.sqrt(1 + layer.compress[0].norm.eps)
    torch.testing.assert_close(layer(x), torch.einsum("oc,nchw->nohw", layer.compress[1].weight[:, :, 0, 0], pixels))
