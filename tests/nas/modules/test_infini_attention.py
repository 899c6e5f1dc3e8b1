"""Infini-attention gives what the paper's equations say, with gradients, in every setting; it names what is wrong."""

from __future__ import annotations

import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nas.modules.infini_attention import InfiniAttention, parameter_groups
from nas.modules.rope import RotaryEmbedding
from tests.nas.modules import references

UPDATES = ("linear", "delta")
HEADS = ((2, 2), (4, 2), (3, 1))
LENGTHS = (1, 3, 4, 8, 11)  # in segments of 4: part of one, whole ones, and whole ones with a rest


def make(heads=2, kv_heads=None, segment=4, layout=None, **options):
    """A float64 module on 24 channels, whose gates differ from head to head."""
    torch.manual_seed(0)
    rope = None if layout is None else RotaryEmbedding(24 // heads, layout=layout)
    module = InfiniAttention(24, heads, segment, kv_heads=kv_heads, rope=rope, **options).double()
    module.gate.data = torch.linspace(-1.5, 1, heads).double()
    return module


def text(tokens, batch=2):
    return torch.randn(batch, tokens, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 2


def by_head(module, x):
    """q, k, v (N, heads, T, size), keys and values repeated for each query head that reads them."""
    q, k, v = (torch.stack(part, 1) for part in references.project(module.heads, x))
    repeats = q.shape[1] // k.shape[1]
    return q, k.repeat_interleave(repeats, 1), v.repeat_interleave(repeats, 1)


@pytest.mark.parametrize("tokens", LENGTHS)
@pytest.mark.parametrize("layout", [None, "half"])
@pytest.mark.parametrize(("heads", "kv_heads"), HEADS)
@pytest.mark.parametrize("update", UPDATES)
def test_a_text_gives_what_the_equations_give_token_by_token(update, heads, kv_heads, layout, tokens):
    module, x = make(heads, kv_heads, update=update, layout=layout), text(tokens)
    y, state = module.stream(x, None)
    expected, m, z = references.infini_attention(module, x, layout=layout)
    torch.testing.assert_close(y, expected, rtol=1e-10, atol=1e-12)
    if m is None:
        assert state.memory is None
    else:
        torch.testing.assert_close(state.memory.m, m, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(state.memory.z, z, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "options",
    [{"layout": "interleaved"}, {"bias": True}, {"head_dim": 5}, {"segment": 1}, {"segment": 2}, {"segment": 11}],
    ids=str,
)
@pytest.mark.parametrize("update", UPDATES)
def test_other_settings_follow_the_equations_too(update, options):
    module, x = make(4, 2, update=update, **options), text(11)
    expected, _, _ = references.infini_attention(module, x, layout=options.get("layout"))
    torch.testing.assert_close(module(x), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("detach_every", [None, 1, 2])
@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize("update", UPDATES)
def test_gradients_are_those_of_the_equations(update, checkpoint, detach_every):
    options = {"layout": "half", "detach_every": detach_every, "checkpoint_segments": checkpoint}
    module = make(4, 2, segment=3, update=update, **options)
    x = text(11).requires_grad_()
    incoming = torch.randn(2, 11, 24, dtype=torch.float64)
    wanted = [x, *module.parameters()]
    found = torch.autograd.grad((module(x) * incoming).sum(), wanted)
    expected, _, _ = references.infini_attention(module, x, layout="half")
    for a, b in zip(found, torch.autograd.grad((expected * incoming).sum(), wanted), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("update", UPDATES)
def test_gradients_agree_with_finite_differences(update):
    torch.manual_seed(0)
    module = InfiniAttention(4, 2, 2, kv_heads=1, update=update, rope=RotaryEmbedding(2)).double()
    names, values = zip(*module.named_parameters(), strict=True)
    x = torch.randn(1, 5, 4, dtype=torch.float64, requires_grad=True)

    def forward(x, *parameters):
        return torch.func.functional_call(module, dict(zip(names, parameters, strict=True)), (x,))

    assert torch.autograd.gradcheck(forward, (x, *values))


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("segment", [7, 8, 100])
def test_a_segment_as_long_as_the_text_is_causal_attention(segment, update):
    module, x = make(4, 2, segment=segment, update=update), text(7)
    y = F.scaled_dot_product_attention(*by_head(module, x), is_causal=True)
    torch.testing.assert_close(module(x), references.unproject(module.heads, list(y.unbind(1))))


@pytest.mark.parametrize("update", UPDATES)
def test_gates_closed_to_memory_leave_causal_attention_within_blocks(update):
    module, x = make(4, 2, update=update), text(11)
    module.gate.data.fill_(-1e4)
    token = torch.arange(11)
    mask = (token[:, None] >= token) & (token[:, None] // 4 == token // 4)
    y = F.scaled_dot_product_attention(*by_head(module, x), attn_mask=mask)
    torch.testing.assert_close(module(x), references.unproject(module.heads, list(y.unbind(1))))


def test_gates_open_to_memory_leave_linear_attention_to_earlier_segments():
    module, x = make(4, 2, update="linear"), text(11)
    module.gate.data.fill_(1e4)
    q, k, v = by_head(module, x)
    token = torch.arange(11)
    weights = (F.elu(q) + 1) @ (F.elu(k) + 1).mT * (token // 4 < token[:, None] // 4)
    y = (weights / weights.sum(-1, keepdim=True))[:, :, 4:] @ v
    expected = references.unproject(module.heads, list(y.unbind(1)))
    torch.testing.assert_close(module(x)[:, 4:], expected)


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("gate", [-1e4, 0.3, 1e4], ids=["local", "mixed", "memory"])
def test_grouped_queries_are_full_heads_with_keys_and_values_repeated(gate, update):
    grouped, full = make(6, 2, update=update), make(6, 6, update=update)
    q, k, v = grouped.heads.qkv.weight.data.split((24, 8, 8))
    k, v = (part.unflatten(0, (2, 4)).repeat_interleave(3, 0).flatten(0, 1) for part in (k, v))
    full.heads.qkv.weight.data = torch.cat((q, k, v))
    full.heads.out.weight.data = grouped.heads.out.weight.data
    for module in (grouped, full):
        module.gate.data.fill_(gate)
    x = text(11)
    torch.testing.assert_close(grouped(x), full(x))


def test_a_feature_map_of_ones_own_is_used_for_queries_and_keys():
    module, x = make(4, 2, feature=nn.Softplus), text(11)
    expected, _, _ = references.infini_attention(module, x, feature=references.softplus)
    torch.testing.assert_close(module(x), expected)
    other, _, _ = references.infini_attention(module, x)
    assert (module(x) - other).abs().max() > 1e-3


@pytest.mark.parametrize("update", UPDATES)
def test_the_first_segment_has_no_part_for_the_gate(update):
    module, x = make(segment=4, update=update), text(9)
    y = module(x)
    (gradient,) = torch.autograd.grad(y[:, :4].square().sum(), module.gate, retain_graph=True, materialize_grads=True)
    assert (gradient == 0).all()
    (gradient,) = torch.autograd.grad(y[:, 4:5].square().sum(), module.gate)
    assert (gradient != 0).all()
    module.gate.data.fill_(torch.nan)
    assert torch.equal(module(x)[:, :4], y[:, :4])


@pytest.mark.parametrize("update", UPDATES)
def test_a_memory_without_features_gives_zero(update):
    module, x = make(bias=True, update=update), text(11)
    module.heads.qkv.weight.data[24:48] = 0
    module.heads.qkv.bias.data[24:48] = -1e4  # of the keys: their features are 0, and they are all the same,
    _, _, v = by_head(module, x)
    y = torch.cat([part.cumsum(2) / torch.arange(1, part.shape[2] + 1)[:, None] for part in v.split(4, 2)], 2)
    y[:, :, 4:] *= 1 - module.gate.sigmoid()[:, None, None]  # so that local attention is a mean.
    torch.testing.assert_close(module(x), references.unproject(module.heads, list(y.unbind(1))))


EXTREMES = (-1e4, -200, -104, -100, -95, -88, -60, -52, -48, -30, 1e4, 1e15)


@pytest.mark.parametrize("value", EXTREMES)
@pytest.mark.parametrize("rows", [slice(0, 24), slice(24, 48), slice(0, 48)], ids=["queries", "keys", "both"])
@pytest.mark.parametrize("update", UPDATES)
def test_extreme_queries_and_keys_give_finite_outputs_and_gradients(update, rows, value):
    module = make(bias=True, update=update).float()
    module.heads.qkv.bias.data[rows] = value
    x = text(11).float().requires_grad_()
    y = module(x)
    y.square().sum().backward()
    assert y.isfinite().all()
    for tensor in (x, *module.parameters()):
        assert tensor.grad.isfinite().all()


@pytest.mark.parametrize("update", UPDATES)
def test_bfloat16_modules_round_nothing_but_projections_and_results(update):
    module = make(4, 2, update=update).bfloat16()
    x = text(11).bfloat16()
    exact = make(4, 2, update=update)
    exact.load_state_dict(module.state_dict())
    y, expected = module(x), exact(x.double())
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.double(), expected, rtol=0, atol=0.02 * expected.abs().max().item())


def test_it_compiles_to_one_graph():
    module = make(4, 2, layout="half")
    x = text(11).requires_grad_()
    y = torch.compile(module, fullgraph=True, backend="aot_eager")(x)
    torch.testing.assert_close(y, module(x))
    found, expected = (torch.autograd.grad(value.square().sum(), x)[0] for value in (y, module(x)))
    torch.testing.assert_close(found, expected)


def model():
    """Every kind of parameter: matrices of an embedding and of products, vectors of norms and biases, two gates."""
    torch.manual_seed(0)
    norm, head = nn.LayerNorm(12), nn.Linear(12, 7)
    return nn.Sequential(nn.Embedding(7, 12), *(InfiniAttention(12, 2, 2, bias=True) for _ in range(2)), norm, head)


def test_every_parameter_that_wants_a_gradient_is_in_one_group():
    network = model()
    network[0].weight.requires_grad_(False)
    found = [id(p) for group in parameter_groups(network, 0.01, 0.1) for p in group["params"]]
    assert sorted(found) == sorted(id(p) for p in network.parameters() if p.requires_grad)


@pytest.mark.parametrize("factor", [None, 7.0])
def test_gates_have_a_rate_of_their_own_and_only_matrices_decay(factor):
    network = model()
    groups = parameter_groups(network, 0.01, 0.1, *(() if factor is None else (factor,)))
    settings = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    for name, parameter in network.named_parameters():
        if name.endswith("gate"):
            expected = (0.01 * (factor or 30), 0.0)
        else:
            expected = (0.01, 0.1 if parameter.dim() == 2 else 0.0)
        assert settings[id(parameter)] == pytest.approx(expected), name


def test_parameters_without_infini_attention_make_groups_without_gates():
    groups = parameter_groups(nn.Linear(3, 4), 0.01, 0.1)
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [(0.01, 0.1), (0.01, 0.0)]


def test_an_optimiser_moves_gates_thirty_times_as_far():
    network = model()
    optimiser = torch.optim.AdamW(parameter_groups(network, 1e-3, 0.0), lr=1.0)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    tokens = torch.randint(7, (4, 9))
    F.cross_entropy(network(tokens).flatten(0, 1), tokens.flatten()).backward()
    optimiser.step()
    for name, p in network.named_parameters():
        # The first step of Adam is the learning rate, in the gradient's direction.
        moved = (p - before[name]).abs().max().item()
        assert moved == pytest.approx(0.03 if name.endswith("gate") else 0.001, rel=0.01), name


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((12, 4, 4), {"kv_heads": 3}, "kv_heads divides heads, .* got 3 and 4"),
        ((12, 2, 4), {"kv_heads": 4}, "kv_heads divides heads, .* got 4 and 2"),
        ((12, 4, 4), {"kv_heads": 0}, "at least 1, got 0 and 4"),
        ((12, 5, 4), {}, "heads divides dim, got 5 and 12; name the size of a head"),
        ((12, 2, 0), {}, "segment and detach_every are at least 1, got 0 and None"),
        ((12, 2, 4), {"detach_every": 0}, "segment and detach_every are at least 1, got 4 and 0"),
        ((12, 2, 4), {"update": "sum"}, "update is linear or delta, got 'sum'"),
        ((12, 2, 4), {"rope": RotaryEmbedding(4)}, r"heads have 6 channels, got RotaryEmbedding\(4\); make it 6"),
    ],
)
def test_settings_that_do_not_fit_are_named(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        InfiniAttention(*arguments, **options)


@pytest.mark.parametrize("shape", [(7, 24), (2, 7, 23), (2, 3, 7, 24)])
def test_texts_of_another_shape_are_named(shape):
    with pytest.raises(ValueError, match=re.escape(f"takes (batch, tokens, 24), got {shape}")):
        make()(torch.zeros(shape, dtype=torch.float64))


def test_groups_wait_for_parameters_that_have_no_shape_yet():
    with pytest.raises(ValueError, match=r"0.weight gets its shape from the first input; run the model once"):
        parameter_groups(nn.Sequential(nn.LazyLinear(3)), 0.1, 0.1)
