"""The ViT and the GPT: their equations, causality and rotary positions."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.small_models import GPT, VIT, Site, build, count
from trainers.models import ModelError, models


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


def test_gpt_starts_with_small_weights():
    """sqrt(2 / (5 dim)), at the end of residual branches divided by sqrt(2 depth)."""
    model = models.get("gpt")(nn.SiLU, (8,), 256, ffn="gated", depth=2)
    for name, weight in model.named_parameters():
        if "norm" not in name:
            expected = math.sqrt(2 / (5 * 128)) / (math.sqrt(2 * 2) if ".out." in name else 1)
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
        qkv = rms(x, f"blocks.{i}.norm1") @ w[f"blocks.{i}.mixer.heads.qkv.weight"].T
        q, k, v = (part.view(n, t, heads, 2 * half).transpose(1, 2) for part in qkv.split(dim, -1))
        q, k = (torch.complex(part[..., :half], part[..., half:]) * turn for part in (q, k))
        weights = ((q @ k.mH).real / math.sqrt(2 * half)).exp().tril()
        y = (weights / weights.sum(-1, keepdim=True)) @ v
        x = x + y.transpose(1, 2).reshape(n, t, dim) @ w[f"blocks.{i}.mixer.heads.out.weight"].T
        hidden = rms(x, f"blocks.{i}.norm2") @ w[f"blocks.{i}.feed_forward.w.weight"].T
        x = x + (hidden / (1 + torch.exp(-hidden))) @ w[f"blocks.{i}.feed_forward.out.weight"].T
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


def test_gpt_reads_any_length():
    model, tokens = build(GPT)
    torch.testing.assert_close(model(tokens[:, :5]), model(tokens)[:, :5])
    assert model(tokens.repeat(1, 3)).shape == (2, 36, 256)


def test_a_binary_gate_is_a_gated_ffn_with_the_operands_exchanged():
    """a sigmoid(b) of (x W, x V) is sigmoid(x W) * x V with W and V exchanged."""
    binary, tokens = build(("gpt", GPT[1] | {"ffn": "binary"}), Site)
    gated, _ = build(("gpt", GPT[1] | {"ffn": "gated"}), nn.Sigmoid)
    exchanged = {".feed_forward.w.": ".feed_forward.v.", ".feed_forward.v.": ".feed_forward.w."}
    weights = binary.state_dict()
    for name in list(weights):
        for old, new in exchanged.items():
            if old in name:
                weights[name] = binary.state_dict()[name.replace(old, new)]
    gated.load_state_dict(weights)
    torch.testing.assert_close(binary(tokens), gated(tokens))


@pytest.mark.parametrize("attention", ["full", "local", "infini", "linear"])
@pytest.mark.parametrize("positions", ["rope", "sinusoidal", "learned", "relative", "alibi", "none"])
def test_any_attention_goes_with_any_positions_that_it_can_use(attention, positions):
    spec = ("gpt", GPT[1] | {"attention": attention, "positions": positions, "segment": 4})
    if (positions in ("relative", "alibi") and attention in ("infini", "linear")) or (positions, attention) == (
        "rope",
        "linear",
    ):
        with pytest.raises(ModelError, match=f"positions={positions} needs scores.*take"):
            build(spec)
        return
    model, tokens = build(spec)
    logits = model(tokens)
    changed = tokens.clone()
    changed[:, 7] = (changed[:, 7] + 1) % 256
    torch.testing.assert_close(model(changed)[:, :7], logits[:, :7], atol=0, rtol=0)
    alone = model(tokens[:, 5:6])[:, 0]
    assert not torch.allclose(logits[:, 5], alone)  # attention mixes tokens


def test_a_learned_position_ends_with_the_context():
    model, tokens = build(("gpt", GPT[1] | {"positions": "learned"}))
    with pytest.raises(ValueError, match="learned positions for 12 tokens, got positions 0 to 12"):
        model(torch.cat((tokens, tokens[:, :1]), 1))


def test_a_bfloat16_gpt_gives_bfloat16():
    model, tokens = build(GPT)
    assert model.to(torch.bfloat16)(tokens).dtype == torch.bfloat16
