"""The attention module, whole and streamed, against torch's own and against each token's attention written out."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nas.modules import (
    AlibiBias,
    Attention,
    DynamicNTKScaling,
    KVCache,
    LongRoPEScaling,
    RelativeBias,
    RotaryEmbedding,
)

DIM = 16
TOKENS = 23

MODULES = {
    "plain": {},
    "biases": {"bias": True},
    "groups": {"kv_heads": 2},
    "a size of its own": {"head_dim": 6, "kv_heads": 1, "bias": True},
    "rope": {"rope": RotaryEmbedding(4)},
    "alibi": {"score_bias": AlibiBias(4)},
    "t5": {"score_bias": RelativeBias(4, 8, 12)},
    "window": {"window": 5},
    "window 1": {"window": 1, "rope": RotaryEmbedding(4)},
    "sinks": {"learned_sinks": True},
    "rope, window, sinks, groups": {
        "rope": RotaryEmbedding(4),
        "window": 4,
        "learned_sinks": True,
        "kv_heads": 2,
    },
    "alibi, window, groups": {"score_bias": AlibiBias(4), "window": 6, "kv_heads": 1},
    "t5, window, sinks": {"score_bias": RelativeBias(4, 8, 12), "window": 11, "learned_sinks": True},
    "rope and alibi": {"rope": RotaryEmbedding(4), "score_bias": AlibiBias(4)},
}


def made(**options):
    torch.manual_seed(0)
    module = Attention(DIM, 4, **options).double()
    with torch.no_grad():
        for parameter in module.parameters():  # larger than usual, so that attention is far from even
            parameter.normal_(std=0.5)
    return module


def text(tokens=TOKENS, n=2):
    return torch.randn(n, tokens, DIM, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def turned(x, position, frequencies):
    """A vector's pairs (i, i + size / 2) as complex numbers, turned."""
    a, b = x.chunk(2)
    z = torch.complex(a, b) * torch.polar(torch.ones_like(a), position * frequencies)
    return torch.cat((z.real, z.imag))


def t5_bucket(distance, buckets, most):
    exact = buckets // 2
    if distance < exact:
        return distance
    return min(exact + int(math.log(distance / exact) / math.log(most / exact) * exact + 1e-9), buckets - 1)


def bias_by_hand(module, head, distance):
    match module.score_bias:
        case AlibiBias():
            return -(2.0 ** (-8 * (head + 1) / 4)) * distance
        case RelativeBias() as t5:
            return t5.weight[t5_bucket(distance, t5.buckets, t5.max_distance), head]
    return 0.0


def by_hand(module, x, frequencies=None):
    """softmax(q k / sqrt(size)) v for each text, token and head by itself; queries, keys and values are the rows of one
    projection, in this order."""
    heads, kv_heads, size = module.heads.heads, module.heads.kv_heads, module.heads.size
    rows = x @ module.heads.qkv.weight.T + (0 if module.heads.qkv.bias is None else module.heads.qkv.bias)
    if frequencies is None and module.rope is not None:
        frequencies = 10_000.0 ** (-2 * torch.arange(size // 2, dtype=torch.float64) / size)
    results = torch.zeros(*x.shape[:2], heads * size, dtype=x.dtype)
    for n, m, head in torch.cartesian_prod(*map(torch.arange, (*x.shape[:2], heads))).tolist():
        group = heads + head // (heads // kv_heads)  # the number of its key head among all heads of the projection
        query = rows[n, m, head * size : (head + 1) * size]
        seen = range(max(0, m - module.window + 1) if module.window else 0, m + 1)
        keys = [rows[n, j, group * size : (group + 1) * size] for j in seen]
        values = torch.stack([rows[n, j, (group + kv_heads) * size : (group + kv_heads + 1) * size] for j in seen])
        if frequencies is not None:
            query = turned(query, m, frequencies)
            keys = [turned(key, j, frequencies) for j, key in zip(seen, keys, strict=True)]
        scores = torch.stack(keys) @ query / math.sqrt(size)
        scores = scores + scores.new_tensor([float(bias_by_hand(module, head, m - j)) for j in seen])
        sink = 0 if module.sink_logits is None else module.sink_logits[head].exp()
        weights = scores.exp() / (scores.exp().sum() + sink)
        results[n, m, head * size : (head + 1) * size] = weights @ values
    return results @ module.heads.out.weight.T + (0 if module.heads.out.bias is None else module.heads.out.bias)


def streamed(module, x, lengths):
    outs, cache = [], None
    for piece in x.split(lengths, 1):
        y, cache = module.stream(piece, cache)
        outs.append(y)
    return torch.cat(outs, 1), cache


def cut(data, tokens):
    """Lengths of pieces that add up to so many tokens."""
    places = data.draw(st.sets(st.integers(1, tokens - 1), max_size=8), "cuts")
    ends = [*sorted(places), tokens]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


@pytest.mark.parametrize("name", MODULES)
@torch.no_grad()
def test_it_is_each_tokens_attention_written_out(name):
    module = made(**MODULES[name])
    torch.testing.assert_close(module(text()), by_hand(module, text()), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("bias", [True, False])
def test_it_is_torchs_multi_head_attention_with_the_same_weights(bias):
    module = made(bias=bias)
    torchs = nn.MultiheadAttention(DIM, 4, bias=bias, batch_first=True, dtype=torch.float64)
    theirs = {"heads.qkv.weight": "in_proj_weight", "heads.qkv.bias": "in_proj_bias"}
    state = {theirs.get(name, name.replace("heads.out", "out_proj")): p for name, p in module.state_dict().items()}
    torchs.load_state_dict(state)
    later = torch.ones(TOKENS, TOKENS, dtype=torch.bool).triu(1)
    expected, _ = torchs(text(), text(), text(), attn_mask=later, need_weights=False)
    torch.testing.assert_close(module(text()), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", MODULES)
@settings(max_examples=15)
@given(data=st.data())
@torch.no_grad()
def test_a_streamed_text_gives_the_same_as_the_whole(name, data):
    module = made(**MODULES[name])
    y, cache = streamed(module, text(), cut(data, TOKENS))
    torch.testing.assert_close(y, module(text()), rtol=1e-11, atol=1e-11)
    assert cache.length == TOKENS


@pytest.mark.parametrize("name", MODULES)
@torch.no_grad()
def test_token_by_token_a_text_gives_the_same_as_the_whole(name):
    module = made(**MODULES[name])
    y, _ = streamed(module, text(), 1)
    torch.testing.assert_close(y, module(text()), rtol=1e-11, atol=1e-11)


def test_gradients_of_a_streamed_text_are_those_of_the_whole():
    module = made(**MODULES["rope, window, sinks, groups"])
    grads = []
    for y in (module(text()), streamed(module, text(), [3, 12, 8])[0]):
        grads.append(torch.autograd.grad(y.square().sum(), list(module.parameters())))
    for whole, pieces in zip(*grads, strict=True):
        torch.testing.assert_close(whole, pieces, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["rope", "window", "t5, window, sinks"])
@torch.no_grad()
def test_a_cache_can_be_continued_twice(name):
    module = made(**MODULES[name])
    _, cache = module.stream(text(9), None)
    before = KVCache(cache.k.clone(), cache.v.clone(), cache.length)
    for more in (text()[:, 9:], -text()[:, 9:], text()[:, 9:]):
        y, after = module.stream(more, cache)
        torch.testing.assert_close(y, module(torch.cat((text(9), more), 1))[:, 9:], rtol=1e-11, atol=1e-11)
        assert after.length == TOKENS
    assert cache.length == before.length == 9
    assert torch.equal(cache.k, before.k)
    assert torch.equal(cache.v, before.v)


@pytest.mark.parametrize("window", [1, 2, 5, 7, 8, 30])
@pytest.mark.parametrize("lengths", [1, [7, 16], [23]])
@torch.no_grad()
def test_a_cache_keeps_what_the_next_token_sees(window, lengths):
    module = made(window=window)
    cache = None
    for piece in text().split(lengths, 1):
        _, cache = module.stream(piece, cache)
        kept = min(window - 1, cache.length)
        rows = text()[:, cache.length - kept : cache.length] @ module.heads.qkv.weight.T
        _, k, v = rows.unflatten(-1, (12, 4)).transpose(1, 2).split(4, 1)
        torch.testing.assert_close(cache.k, k)
        torch.testing.assert_close(cache.v, v)


@torch.no_grad()
def test_a_cache_holds_no_memory_of_what_is_forgotten():
    _, cache = made(window=4).stream(text(), None)
    for kept in (cache.k, cache.v):
        assert kept.untyped_storage().nbytes() == kept.nbytes


SCALINGS = {
    "dynamic NTK": DynamicNTKScaling(3.0, 5),
    "LongRoPE": LongRoPEScaling((1.0, 1.5), (2.0, 9.0), 7, scale=1.0),
}


def frequencies_at(name, length):
    """Of both pairs of channels, for a text so long."""
    if name == "LongRoPE":
        pairs = (1.0, 0.01 / 1.5) if length <= 7 else (1 / 2.0, 0.01 / 9.0)
    else:
        alpha = 3 * max(length, 5) / 5 - 2
        base = 10_000 * alpha ** (4 / 2)  # d / (d - 2) for 4 channels
        pairs = (1.0, base**-0.5)
    return torch.tensor(pairs, dtype=torch.float64)


@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("name", SCALINGS)
@torch.no_grad()
def test_a_scaling_by_length_turns_each_streamed_token_as_in_a_text_that_ends_there(name, window):
    module = made(rope=RotaryEmbedding(4, scaling=SCALINGS[name]), window=window)
    x, cache = text(16), None
    for length in range(1, 17):
        y, cache = module.stream(x[:, length - 1 : length], cache)
        expected = by_hand(module, x[:, :length], frequencies_at(name, length))
        torch.testing.assert_close(module(x[:, :length]), expected, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(y[:, 0], expected[:, -1], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("name", ["rope, window, sinks, groups", "alibi, window, groups", "t5, window, sinks"])
@torch.no_grad()
def test_low_precision_comes_back_and_is_near(name, dtype):
    exact = made(**MODULES[name]).to(dtype).double()  # of the weights rounded
    x = text().to(dtype)
    expected = exact(x.double())
    low = exact.to(dtype)
    for y in (low(x), streamed(low, x, [9, 1, 13])[0]):
        assert y.dtype == dtype
        assert (y.double() - expected).abs().max() < 8 * torch.finfo(dtype).eps * expected.abs().max()


@pytest.mark.parametrize("options", [{"window": 8}, {"window": 8, "learned_sinks": True, "rope": RotaryEmbedding(4)}])
def test_memory_with_a_window_grows_with_the_tokens_and_not_with_their_square(options):
    module, totals = made(**options), []
    for tokens in (160, 320, 640):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, sizes=sizes: sizes.append(x.nbytes) or x, lambda x: x):
            module(text(tokens, 1))
        totals.append(sum(sizes))
    one, two, four = totals
    assert four - two == pytest.approx(2 * (two - one), rel=0.01)


@pytest.mark.parametrize(
    ("other", "x"),
    [
        ({}, text(3, n=3)),
        ({}, text(3).float()),
        ({"kv_heads": 2}, text(3)),
        ({"head_dim": 6}, text(3)),
    ],
)
def test_a_cache_of_another_batch_or_module_is_refused(other, x):
    _, cache = made().stream(text(5), None)
    with pytest.raises(ValueError, match=r"the cache has .*\(2, 4, 5, 4\), torch.float64.*begin a new text with None"):
        made(**other).to(x.dtype).stream(x, cache)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kv_heads": 3}, "kv_heads divides heads, both at least 1, got 3 and 4"),
        ({"kv_heads": 0}, "kv_heads divides heads, both at least 1, got 0 and 4"),
        ({"window": 0}, "window is at least 1 token, got 0; None is for all"),
        ({"rope": RotaryEmbedding(8)}, r"heads have 4 channels, got RotaryEmbedding\(8\); make it 4"),
        ({"dim": 18}, "heads divides dim, got 4 and 18"),
        ({"head_dim": 0}, "at least 1.*0"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Attention(**{"dim": DIM, "heads": 4, **options})


@pytest.mark.parametrize("shape", [(2, 5, 15), (5, 16), (2, 3, 5, 16)])
def test_other_inputs_than_texts_are_refused(shape):
    with pytest.raises(ValueError, match=r"attention takes \(batch, tokens, 16\), got .*" + str(shape[-1])):
        made()(torch.zeros(shape, dtype=torch.float64))
