"""The ViT and the GPT: their equations, causality and rotary positions."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.small_models import GPT, VIT, Site, build, count
from trainers.models import ModelError, models
from trainers.models.gpt import Rope, rotate, rotations


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
