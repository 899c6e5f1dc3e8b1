"""Model families: parameter counts of the papers, activation sites, and what each architecture must and must not do."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.modules.activations import NormAct
from trainers.models import ModelError, models
from trainers.models.densenet import DenseLayer, Transition
from trainers.models.gpt import Rope, rotate, rotations
from trainers.models.preact_resnet import PreActBlock

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
        ("gpt", {"dim": 100, "heads": 3}, (8,), "got 100 and 3; take model.dim=96"),
        ("gpt", {"dim": 12, "heads": 4}, (8,), "got 12 and 4; take model.dim=8"),
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


def test_a_vit_block_is_torchs_encoder_layer():
    block = build(VIT, nn.GELU)[0].blocks[0]
    layer = nn.TransformerEncoderLayer(16, 2, 64, 0.0, F.gelu, 1e-6, batch_first=True, norm_first=True)
    ours, theirs = dict(block.named_parameters()), dict(layer.named_parameters())
    names = {"attention.qkv.": "self_attn.in_proj_", "attention.out.": "self_attn.out_proj."}
    names |= {"fc1.": "linear1.", "fc2.": "linear2.", "norm1.": "norm1.", "norm2.": "norm2."}
    with torch.no_grad():
        for our, their in names.items():
            for kind in ("weight", "bias"):
                theirs[their + kind].copy_(ours[our + kind].normal_(0, 0.3))
    x = torch.randn(2, 5, 16)
    torch.testing.assert_close(block(x), layer(x))


def test_a_vit_tells_patches_apart_by_their_positions_alone():
    model, x = build(VIT)
    moved = x.view(2, 3, 4, 2, 4, 2).flip(2, 4).reshape(2, 3, 8, 8)  # whole patches change places
    assert (model(x) - model(moved)).abs().max() > 1e-5
    nn.init.zeros_(model.positions)
    torch.testing.assert_close(model(x), model(moved))


@pytest.mark.parametrize(
    ("kind", "ffn"), [("plain", 8 * 128 * 128), ("gated", 3 * 128 * 344), ("binary", 3 * 128 * 344)]
)
def test_gpt_parameters(kind, ffn):
    """Tokens in, tokens out, a norm before attention, FFN and head; 344 is 2/3 * 4 * 128 up to a multiple of 8."""
    with torch.device("meta"):
        model = models.get("gpt")(nn.SiLU, (64,), 256, ffn=kind)
    assert count(model) == 2 * 256 * 128 + 4 * (4 * 128 * 128 + ffn + 2 * 128) + 128


@pytest.mark.parametrize("dim", [32, 128, 384])
def test_gated_and_plain_gpt_are_of_one_size(dim):
    with torch.device("meta"):
        plain, gated = (count(models.get("gpt")(nn.SiLU, (8,), 256, dim=dim, ffn=kind)) for kind in ("plain", "gated"))
    assert abs(gated / plain - 1) < 0.02


def test_gpt_starts_like_gpt2():
    model = models.get("gpt")(nn.SiLU, (8,), 256, ffn="gated", depth=2)
    for name, weight in model.named_parameters():
        if "norm" not in name:
            expected = 0.02 / math.sqrt(2 * 2) if ".out." in name else 0.02
            assert abs(weight.std().item() / expected - 1) < 0.05, name


def reference_gpt(model: nn.Module, tokens: Tensor, heads: int, base: float) -> Tensor:
    """Logits of a plain gpt with SiLU: rotation and scores as complex numbers, softmax written out, in float64."""
    w = {name: p.detach().double() for name, p in model.named_parameters()}

    def rms(x: Tensor, name: str) -> Tensor:
        return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * w[f"{name}.weight"]

    x = w["embed.weight"][tokens]
    n, t, dim = x.shape
    half = dim // heads // 2
    phase = torch.arange(t)[:, None] * base ** (-torch.arange(half, dtype=torch.float64) / half)
    turn = torch.polar(torch.ones_like(phase), phase)
    for i in range(len(model.blocks)):
        qkv = rms(x, f"blocks.{i}.norm1") @ w[f"blocks.{i}.attention.qkv.weight"].T
        q, k, v = (part.view(n, t, heads, 2 * half).transpose(1, 2) for part in qkv.split(dim, -1))
        q, k = (torch.complex(part[..., :half], part[..., half:]) * turn for part in (q, k))
        weights = ((q @ k.mH).real / math.sqrt(2 * half)).exp().tril()
        y = (weights / weights.sum(-1, keepdim=True)) @ v
        x = x + y.transpose(1, 2).reshape(n, t, dim) @ w[f"blocks.{i}.attention.out.weight"].T
        hidden = rms(x, f"blocks.{i}.norm2") @ w[f"blocks.{i}.ffn.w.weight"].T
        x = x + (hidden / (1 + torch.exp(-hidden))) @ w[f"blocks.{i}.ffn.out.weight"].T
    return rms(x, "norm") @ w["head.weight"].T


def test_gpt_is_its_equations():
    model, tokens = build(("gpt", GPT[1] | {"base": 100.0}))
    for p in model.parameters():
        nn.init.normal_(p, 0.5 if p.dim() == 1 else 0.0, 0.3)
    expected = reference_gpt(model, tokens, 2, 100.0)
    torch.testing.assert_close(model(tokens).double(), expected, atol=1e-4, rtol=1e-4)


def test_no_logit_depends_on_a_later_token():
    model, tokens = build(GPT)
    changed = tokens.clone()
    changed[:, 7] = (changed[:, 7] + 1) % 256
    before, after = model(tokens), model(changed)
    torch.testing.assert_close(after[:, :7], before[:, :7], atol=0, rtol=0)
    assert ((after[:, 7:] - before[:, 7:]).abs().amax((0, 2)) > 0).all()


def test_gpt_reads_up_to_its_context():
    model, tokens = build(GPT)
    torch.testing.assert_close(model(tokens[:, :5]), model(tokens)[:, :5])
    with pytest.raises(ModelError, match="built for 12 tokens, got 13"):
        model(torch.zeros(1, 13, dtype=torch.int64))


def test_a_binary_gate_is_a_gated_ffn_with_the_operands_exchanged():
    """a sigmoid(b) of (x W, x V) is sigmoid(x W) * x V with W and V exchanged."""
    binary, tokens = build(("gpt", GPT[1] | {"ffn": "binary"}), Site)
    gated, _ = build(("gpt", GPT[1] | {"ffn": "gated"}), nn.Sigmoid)
    exchanged = {".ffn.w.": ".ffn.v.", ".ffn.v.": ".ffn.w."}
    weights = binary.state_dict()
    for name in list(weights):
        for old, new in exchanged.items():
            if old in name:
                weights[name] = binary.state_dict()[name.replace(old, new)]
    gated.load_state_dict(weights)
    torch.testing.assert_close(binary(tokens), gated(tokens))


def test_rotation_is_complex_multiplication():
    x = torch.randn(3, 10, 8, dtype=torch.float64)
    angle = torch.arange(10)[:, None] * 10_000.0 ** (-torch.arange(4, dtype=torch.float64) / 4)
    z = torch.complex(x[..., :4], x[..., 4:]) * torch.exp(1j * angle)
    rotated = rotate(x, *rotations(10, 8, 10_000.0))
    torch.testing.assert_close(rotated, torch.cat((z.real, z.imag), -1))
    torch.testing.assert_close(rotated.norm(dim=-1), x.norm(dim=-1))


def test_rotated_products_depend_on_the_distance_alone():
    q, k = torch.randn(2, 1, 8, dtype=torch.float64)
    table = rotations(50, 8, 10_000.0)
    products = rotate(q.expand(50, 8), *table) @ rotate(k.expand(50, 8), *table).T
    for distance in (0, 3, 20):
        diagonal = products.diagonal(-distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal))
    assert products[:, 0].std() > 0.01


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_no_cast_of_a_model_changes_its_rotations(dtype):
    """The table is right to float32's last bit at all positions of a long context; it is no part of a checkpoint."""
    rope = nn.ModuleDict({"rope": Rope(131_072, 4, 10_000.0)}).to(dtype)["rope"]
    assert rope.table().dtype == torch.float32
    torch.testing.assert_close(rope.table().double(), rotations(131_072, 4, 10_000.0), atol=6e-8, rtol=0)
    assert rope.state_dict() == {}


def test_a_bfloat16_gpt_rotates_in_float32():
    rope = Rope(600, 8, 10_000.0).to(torch.bfloat16)
    x = torch.randn(1, 1, 600, 8).to(torch.bfloat16)
    expected = rotate(x.double(), *rotations(600, 8, 10_000.0))
    torch.testing.assert_close(rope(x), expected.to(torch.bfloat16), atol=1e-6, rtol=2**-7)
    model, tokens = build(GPT)
    assert model.to(torch.bfloat16)(tokens).dtype == torch.bfloat16
