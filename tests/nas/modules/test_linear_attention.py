"""Linear attention gives what a loop over the tokens gives, by both rules, and so do the functions of its memory."""

from __future__ import annotations

import re

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from nas.modules.linear_attention import LinearAttention
from nas.modules.memory import EluPlusOne, empty_memory, read, write
from tests.nas.modules import references

UPDATES = ("linear", "delta")
CHUNKS = (1, 3, 64)


def make(heads=4, kv_heads=2, **options):
    torch.manual_seed(0)
    return LinearAttention(12, heads, kv_heads=kv_heads, **options).double()


def text(tokens, batch=2):
    return torch.randn(batch, tokens, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 2


@pytest.mark.parametrize("tokens", [1, 6, 11])
@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize(("heads", "kv_heads"), [(2, 2), (4, 2), (3, 1)])
@pytest.mark.parametrize("update", UPDATES)
def test_a_text_gives_what_the_recurrence_gives_in_chunks_of_any_size(update, heads, kv_heads, chunk, tokens):
    module, x = make(heads, kv_heads, update=update, chunk=chunk), text(tokens)
    y, memory = module.stream(x, None)
    expected, m = references.linear_attention(module, x)
    torch.testing.assert_close(y, expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(memory.m, m, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("options", [{"bias": True}, {"head_dim": 5}], ids=str)
@pytest.mark.parametrize("update", UPDATES)
def test_other_settings_follow_the_recurrence_too(update, options):
    module, x = make(update=update, chunk=4, **options), text(11)
    torch.testing.assert_close(module(x), references.linear_attention(module, x)[0])


@pytest.mark.parametrize("update", UPDATES)
def test_a_feature_map_of_ones_own_is_used_for_queries_and_keys(update):
    module, x = make(update=update, feature=nn.Softplus), text(11)
    torch.testing.assert_close(module(x), references.linear_attention(module, x, references.softplus)[0])
    assert (module(x) - references.linear_attention(module, x)[0]).abs().max() > 1e-3


@pytest.mark.parametrize("chunk", CHUNKS)
def test_the_linear_rule_is_attention_with_products_of_features(chunk):
    module, x = make(chunk=chunk), text(70)
    q, k, v = (torch.stack(part, 1) for part in references.project(module.heads, x))
    k, v = (part.repeat_interleave(2, 1) for part in (k, v))
    weights = ((F.elu(q) + 1) @ (F.elu(k) + 1).mT).tril()
    y = weights / weights.sum(-1, keepdim=True) @ v
    torch.testing.assert_close(module(x), references.unproject(module.heads, list(y.unbind(1))))


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("update", UPDATES)
def test_gradients_are_those_of_the_recurrence(update, chunk):
    module, x = make(update=update, chunk=chunk), text(8).requires_grad_()
    wanted = [x, *module.parameters()]
    found = torch.autograd.grad(module(x).square().sum(), wanted)
    expected = torch.autograd.grad(references.linear_attention(module, x)[0].square().sum(), wanted)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("update", UPDATES)
def test_gradients_agree_with_finite_differences(update):
    torch.manual_seed(0)
    module = LinearAttention(4, 2, kv_heads=1, update=update, chunk=2).double()
    names, values = zip(*module.named_parameters(), strict=True)
    x = torch.randn(1, 5, 4, dtype=torch.float64, requires_grad=True)

    def forward(x, *parameters):
        return torch.func.functional_call(module, dict(zip(names, parameters, strict=True)), (x,))

    assert torch.autograd.gradcheck(forward, (x, *values))


@pytest.mark.parametrize("update", UPDATES)
@given(cuts=st.sets(st.integers(1, 10)))
@example(cuts=set(range(1, 11)))
@settings(max_examples=30)
def test_a_streamed_text_gives_the_same_as_the_whole(update, cuts):
    module, x = make(update=update, chunk=3), text(11)
    whole, last = module.stream(x, None)
    outs, memory = [], None
    for piece in x.tensor_split(sorted(cuts), 1):
        y, memory = module.stream(piece, memory)
        outs.append(y)
    torch.testing.assert_close(torch.cat(outs, 1), whole, rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(memory.m, last.m, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("update", UPDATES)
def test_a_memory_can_be_continued_from_twice(update):
    module, x = make(update=update, chunk=3), text(11)
    _, memory = module.stream(x[:, :5], None)
    before = [part.detach().clone() for part in memory]
    first, second = (module.stream(x[:, 5:], memory)[0] for _ in range(2))
    assert torch.equal(first, second)
    assert all(torch.equal(a, b) for a, b in zip(memory, before, strict=True))


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("update", UPDATES)
def test_each_token_depends_on_all_earlier_ones_and_on_no_later_one(update, chunk):
    module, mix = make(update=update, chunk=chunk), torch.linspace(-1, 1, 12).double()
    strength = torch.autograd.functional.jacobian(lambda x: module(x)[0] @ mix, text(9, batch=1)).abs().sum((1, 3))
    assert (strength.triu(1) == 0).all()
    assert torch.equal(strength > 1e-9, torch.ones(9, 9).tril().bool())


@pytest.mark.parametrize("update", UPDATES)
def test_grouped_queries_are_full_heads_with_keys_and_values_repeated(update):
    grouped, full = make(6, 2, update=update, chunk=4), make(6, 6, update=update, chunk=4)
    q, k, v = grouped.heads.qkv.weight.data.split((12, 4, 4))
    k, v = (part.unflatten(0, (2, 2)).repeat_interleave(3, 0).flatten(0, 1) for part in (k, v))
    full.heads.qkv.weight.data = torch.cat((q, k, v))
    full.heads.out.weight.data = grouped.heads.out.weight.data
    if update == "delta":
        full.strength.weight.data = grouped.strength.weight.data.repeat_interleave(3, 0)
        full.strength.bias.data = grouped.strength.bias.data.repeat_interleave(3, 0)
    torch.testing.assert_close(grouped(text(11)), full(text(11)))


def dictionary(update, strength, chunk):
    """A module whose tokens say what to ask for, where to write and what; and what a Python dictionary would answer."""
    module = LinearAttention(12, 1, head_dim=4, update=update, chunk=chunk).double()
    module.heads.qkv.weight.data = torch.eye(12).double()
    module.heads.out.weight.data = torch.eye(12, 4).double()
    if update == "delta":
        module.strength.weight.data.zero_()
        module.strength.bias.data.fill_(torch.tensor(strength).logit())
    torch.manual_seed(0)
    places, values = torch.randint(4, (2, 40)), torch.randn(40, 4).double()
    q, k = F.one_hot(places, 4).double() * 2e4 - 1e4  # whose features are 0 but for one channel
    written, answers = {}, []
    for ask, place, value in zip(*places.tolist(), values, strict=True):
        written.setdefault(place, []).append(value)
        answers.append(list(written.get(ask, ())))
    return module(torch.cat((q, k, values), -1)[None])[0, :, :4], answers


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("strength", [1.0, 0.25])
def test_the_delta_rule_replaces_what_was_under_a_key(strength, chunk):
    found, answers = dictionary("delta", strength, chunk)
    for y, values in zip(found, answers, strict=True):
        expected = torch.zeros(4).double()
        for value in values:
            expected = expected + strength * (value - expected)
        torch.testing.assert_close(y, expected)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_the_linear_rule_gives_the_mean_of_what_is_under_a_key(chunk):
    found, answers = dictionary("linear", None, chunk)
    for y, values in zip(found, answers, strict=True):
        torch.testing.assert_close(y, torch.stack(values).mean(0) if values else torch.zeros(4).double())


@pytest.mark.parametrize("autocast", [False, True])
def test_in_bfloat16_the_memory_counts_beyond_256(autocast):
    module = make().to(torch.float32 if autocast else torch.bfloat16)
    x = torch.zeros(1, 600, 12, dtype=module.heads.out.weight.dtype)  # keys 0, features 1; bfloat16 has no number 257
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        y, memory = module.stream(x, None)
    assert y.dtype == torch.bfloat16
    assert memory.m.dtype == memory.z.dtype == torch.float32
    assert (memory.z == 600).all()


@pytest.mark.parametrize("update", UPDATES)
def test_bfloat16_modules_round_nothing_but_projections_and_results(update):
    module = make(update=update, chunk=4, feature=references.RecordingFeature).bfloat16()
    exact, x = make(update=update), text(11).bfloat16()
    exact.load_state_dict(module.state_dict())
    found, expected = module(x).double(), exact(x.double())
    assert module.feature.dtypes == {torch.float32}
    torch.testing.assert_close(found, expected, rtol=0, atol=0.02 * expected.abs().max().item())


@pytest.mark.parametrize("value", [-1e4, -200, -104, -100, -95, -60, -52, -48, 1e4, 1e15])
@pytest.mark.parametrize("rows", [slice(0, 12), slice(12, 18), slice(0, 18)], ids=["queries", "keys", "both"])
@pytest.mark.parametrize("update", UPDATES)
def test_extreme_queries_and_keys_give_finite_outputs_and_gradients(update, rows, value):
    module = make(bias=True, update=update, chunk=4).float()
    module.heads.qkv.bias.data[rows] = value
    x = text(11).float().requires_grad_()
    y = module(x)
    y.square().sum().backward()
    assert y.isfinite().all()
    for tensor in (x, *module.parameters()):
        assert tensor.grad.isfinite().all()


@pytest.mark.parametrize("update", UPDATES)
def test_bytes_and_work_grow_linearly_in_the_text(update):
    module, counts = make(update=update, chunk=4), []
    for tokens in (8, 64, 128, 256):
        x = text(tokens).requires_grad_()
        with references.Measure() as measure:
            y = module(x).sum()
            held = measure.held()
            y.backward()
        counts.append((held, measure.made))
    for _, small, middle, large in zip(*counts, strict=True):
        assert 1.9 < middle / small < 2.1
        assert 1.9 < large / middle < 2.1


@pytest.mark.parametrize("update", UPDATES)
def test_it_compiles_to_one_graph(update):
    module, x = make(update=update, chunk=4), text(9).requires_grad_()
    y = torch.compile(module, fullgraph=True, backend="aot_eager")(x)
    torch.testing.assert_close(y, module(x))
    found, expected = (torch.autograd.grad(value.square().sum(), x)[0] for value in (y, module(x)))
    torch.testing.assert_close(found, expected)


def test_what_was_written_alone_is_read_back_whatever_asks():
    torch.manual_seed(0)
    k, v, q = torch.rand(2, 3, 1, 5).double(), torch.randn(2, 3, 1, 4).double(), torch.rand(2, 6, 7, 5).double()
    found = read(write(empty_memory(k, v), k, v), q)
    torch.testing.assert_close(found, v.repeat_interleave(2, 1).expand(2, 6, 7, 4))


def test_an_empty_memory_gives_zero_and_no_gradient():
    k, q = torch.rand(1, 2, 3, 4), torch.rand(1, 4, 3, 4, requires_grad=True)
    y = read(empty_memory(k, k), q)
    assert (y == 0).all()
    assert (torch.autograd.grad(y.sum(), q)[0] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_elu_plus_one_is_positive_where_exp_is_and_has_slope_one_at_zero(dtype):
    x = torch.tensor([-80.0, -20.0, -1.0, 0.0, 0.5, 30.0], dtype=dtype, requires_grad=True)
    y = EluPlusOne()(x)
    expected = torch.where(x > 0, 1 + x.double(), x.detach().double().clamp(max=0).exp())
    torch.testing.assert_close(y, expected.to(dtype), rtol=1e-6, atol=0)
    (slope,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(slope, x.detach().clamp(max=0).exp(), rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((12, 4), {"kv_heads": 3}, "kv_heads divides heads, .* got 3 and 4"),
        ((12, 5), {}, "heads divides dim, got 5 and 12; name the size of a head"),
        ((12, 2), {"update": "sum"}, "update is linear or delta, .* got 'sum' and 64"),
        ((12, 2), {"chunk": 0}, "chunk at least 1; got 'linear' and 0"),
    ],
)
def test_settings_that_do_not_fit_are_named(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        LinearAttention(*arguments, **options)


@pytest.mark.parametrize("shape", [(7, 12), (2, 7, 11), (2, 3, 7, 12)])
def test_texts_of_another_shape_are_named(shape):
    with pytest.raises(ValueError, match=re.escape(f"takes (batch, tokens, 12), got {shape}")):
        make()(torch.zeros(shape, dtype=torch.float64))


@pytest.mark.parametrize("other", ["batch", "dtype", "heads", "size"])
def test_a_memory_of_something_else_is_named(other):
    x = text(4)
    _, memory = make().stream(x, None)
    module = {"heads": lambda: make(4, 4), "size": lambda: make(head_dim=5)}.get(other, make)()
    if other == "batch":
        x = x[:1]
    if other == "dtype":
        module, x = module.float(), x.float()
    with pytest.raises(ValueError, match=r"memory has .* \(2, 2, 3, 3\), torch.float64.*begin a new text with None"):
        module.stream(x, memory)
