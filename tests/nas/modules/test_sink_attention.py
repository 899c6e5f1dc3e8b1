"""Attention with first tokens and a window, against the StreamingLLM paper's cache as a list of single tokens."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.modules import Attention, DynamicNTKScaling, KVCache, RotaryEmbedding, SinkAttention

DIM = 16
TOKENS = 31

OPTIONS = {
    "the paper's": {"window": 6, "sink_tokens": 4, "rope": RotaryEmbedding(4)},
    "window 1": {"window": 1, "sink_tokens": 2, "rope": RotaryEmbedding(4)},
    "window 2": {"window": 2, "sink_tokens": 1, "rope": RotaryEmbedding(4)},
    "more first tokens than window": {"window": 3, "sink_tokens": 7, "rope": RotaryEmbedding(4)},
    "no first tokens": {"window": 5, "sink_tokens": 0, "rope": RotaryEmbedding(4)},
    "no rope": {"window": 4, "sink_tokens": 3},
    "groups": {"window": 4, "sink_tokens": 2, "rope": RotaryEmbedding(4), "kv_heads": 2},
    "a size of its own": {"window": 4, "rope": RotaryEmbedding(6), "head_dim": 6, "kv_heads": 1, "bias": True},
    "a rotation in part": {"window": 4, "sink_tokens": 2, "rope": RotaryEmbedding(4, rotary_dim=2)},
    "a window for half the text": {"window": 14, "sink_tokens": 2, "rope": RotaryEmbedding(4)},
    "a window for all": {"window": 40, "rope": RotaryEmbedding(4)},
}


def weighted(module):
    """Larger weights than usual, so that attention is far from even."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.5)
    return module.double()


def made(**options):
    return weighted(SinkAttention(DIM, 4, **options))


def text(tokens=TOKENS, n=2):
    return torch.randn(n, tokens, DIM, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def turned(x, position, width):
    """The first ``width`` channels' pairs (i, i + width / 2) as complex numbers, turned."""
    a, b = x[:width].chunk(2)
    angles = position * 10_000.0 ** (-2 * torch.arange(width // 2, dtype=torch.float64) / width)
    z = torch.complex(a, b) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat((z.real, z.imag, x[width:]))


@torch.no_grad()
def by_the_paper(module, x):
    """Token by token: a list of unrotated keys and of values, from which the oldest token but the first ones is dropped
    when it is too long; keys are turned by their place in the list, the query by the last place."""
    heads, kv_heads, size = module.heads.heads, module.heads.kv_heads, module.heads.size
    width = module.rope.rotary_dim if module.rope else 0
    projection = module.heads.qkv
    outs = []
    for tokens in x:
        caches = [[] for _ in range(kv_heads)]
        for token in tokens:
            rows = projection.weight @ token + (0 if projection.bias is None else projection.bias)
            rows = rows.view(-1, size)
            y = []
            for group, cache in enumerate(caches):
                cache.append((rows[heads + group], rows[heads + kv_heads + group]))
                if len(cache) > module.sink_tokens + module.window:
                    del cache[module.sink_tokens]
                keys = torch.stack([turned(k, place, width) for place, (k, _) in enumerate(cache)])
                values = torch.stack([v for _, v in cache])
                for head in range(group * heads // kv_heads, (group + 1) * heads // kv_heads):
                    scores = keys @ turned(rows[head], len(cache) - 1, width) / math.sqrt(size)
                    y.append(scores.softmax(0) @ values)
            outs.append(module.heads.out(torch.cat(y)))
    return torch.stack(outs).view(x.shape)


def streamed(module, x, lengths):
    outs, cache = [], None
    for piece in x.split(lengths, 1):
        y, cache = module.stream(piece, cache)
        outs.append(y)
    return torch.cat(outs, 1)


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", OPTIONS)
@torch.no_grad()
def test_whole_and_token_by_token_it_is_the_papers_cache(name):
    module = made(**OPTIONS[name])
    expected = by_the_paper(module, text())
    close(module(text()), expected)
    close(streamed(module, text(), 1), expected)


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("tokens", [1, 2, 5, 10, 13])
@torch.no_grad()
def test_short_texts_are_the_papers_cache(name, tokens):
    module = made(**OPTIONS[name])
    close(module(text(tokens)), by_the_paper(module, text(tokens)))


@settings(max_examples=60)
@given(st.data())
@torch.no_grad()
def test_in_any_pieces_it_is_the_papers_cache(data):
    window, sinks = data.draw(st.integers(1, 6), "window"), data.draw(st.integers(0, 5), "sinks")
    module = made(
        window=window, sink_tokens=sinks, rope=RotaryEmbedding(4), kv_heads=data.draw(st.sampled_from([1, 4]))
    )
    lengths = data.draw(st.lists(st.integers(1, 12), min_size=1, max_size=5), "pieces")
    x = text(sum(lengths), 1)
    close(streamed(module, x, lengths), by_the_paper(module, x))


@torch.no_grad()
def test_far_beyond_the_window_it_is_the_papers_cache():
    module = made(**OPTIONS["groups"])
    x = text(300, 1)
    expected = by_the_paper(module, x)
    close(module(x), expected)
    close(streamed(module, x, [100, 1, 1, 90, 7, 101]), expected)


@pytest.mark.parametrize("name", ["the paper's", "window 1", "more first tokens than window", "no first tokens"])
@torch.no_grad()
def test_the_last_token_of_a_long_text_is_that_of_one_with_the_middle_cut_out(name):
    module = made(**OPTIONS[name])
    window, sinks = module.window, module.sink_tokens
    x = text(50 * window + sinks, 1)
    cut = torch.cat((x[:, :sinks], x[:, -window:]), 1)
    close(module(x)[:, -1], module(cut)[:, -1])
    close(streamed(module, x, 7)[:, -1], module(cut)[:, -1])


@torch.no_grad()
def test_positions_never_exceed_what_is_kept():
    short = DynamicNTKScaling(4.0, 10)  # would turn otherwise from a length of 11 on
    plain, scaled = (made(window=6, sink_tokens=4, rope=RotaryEmbedding(4, scaling=s)) for s in (None, short))
    for lengths in (1, 3, [2, 28, 1], [31]):
        close(streamed(scaled, text(), lengths), streamed(plain, text(), lengths))
    seen = made(window=5, sink_tokens=4, rope=RotaryEmbedding(4, scaling=DynamicNTKScaling(4.0, 5)))
    torch.testing.assert_close(seen(text())[:, -1], seen(torch.cat((text()[:, :4], text()[:, -5:]), 1))[:, -1])


@pytest.mark.parametrize("options", [{}, {"kv_heads": 2, "head_dim": 6, "bias": True}])
@torch.no_grad()
def test_while_nothing_is_forgotten_it_is_plain_attention_with_the_same_state(options):
    rope = RotaryEmbedding(options.get("head_dim", 4))
    attention = weighted(Attention(DIM, 4, rope=rope, **options))
    module = SinkAttention(DIM, 4, window=6, sink_tokens=4, rope=rope, **options).double()
    module.load_state_dict(attention.state_dict())
    expected = attention(text())
    close(module(text()[:, :10]), expected[:, :10])
    found = module(text())
    close(found[:, :10], expected[:, :10])
    assert (found - expected)[:, 10:].abs().amax(-1).min() > 1e-4
    attention.load_state_dict(module.state_dict())


@pytest.mark.parametrize("lengths", [1, [5, 26], [31]])
@torch.no_grad()
def test_the_cache_holds_unrotated_keys_of_first_and_last_tokens(lengths):
    module = made(window=6, sink_tokens=4, rope=RotaryEmbedding(4), kv_heads=2)
    cache = None
    for piece in text().split(lengths, 1):
        _, cache = module.stream(piece, cache)
        places = [*range(min(4, cache.length)), *range(max(4, cache.length - 5), cache.length)]
        rows = (text()[:, places] @ module.heads.qkv.weight.T).unflatten(-1, (8, 4)).transpose(1, 2)
        close(cache.k, rows[:, 4:6])
        close(cache.v, rows[:, 6:8])
    assert cache.length == TOKENS
    assert cache.k.shape[-2] == 9
    assert cache.k.untyped_storage().nbytes() == cache.k.nbytes


@torch.no_grad()
def test_a_cache_can_be_continued_twice():
    module = made(**OPTIONS["the paper's"])
    _, cache = module.stream(text(20), None)
    before = KVCache(cache.k.clone(), cache.v.clone(), cache.length)
    for more in (text()[:, 20:], -text()[:, 20:], text()[:, 20:]):
        y, _ = module.stream(more, cache)
        close(y, by_the_paper(module, torch.cat((text(20), more), 1))[:, 20:])
    assert cache.length == before.length
    assert torch.equal(cache.k, before.k)
    assert torch.equal(cache.v, before.v)


def test_gradients_of_a_streamed_text_are_those_of_the_whole():
    module = made(**OPTIONS["groups"])
    grads = []
    for y in (module(text()), streamed(module, text(), [3, 20, 8])):
        grads.append(torch.autograd.grad(y.square().sum(), list(module.parameters())))
    for whole, pieces in zip(*grads, strict=True):
        torch.testing.assert_close(whole, pieces, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("first", [0, 4])
def test_memory_grows_with_the_tokens_and_not_with_their_square(first):
    module, totals = made(window=8, sink_tokens=first, rope=RotaryEmbedding(4)), []
    for tokens in (160, 320, 640):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, sizes=sizes: sizes.append(x.nbytes) or x, lambda x: x):
            module(text(tokens, 1))
        totals.append(sum(sizes))
    one, two, four = totals
    assert four - two == pytest.approx(2 * (two - one), rel=0.01)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@torch.no_grad()
def test_low_precision_comes_back_and_is_near(dtype):
    exact = made(**OPTIONS["the paper's"]).to(dtype).double()  # of the weights rounded
    x = text().to(dtype)
    expected = by_the_paper(exact, x.double())
    low = exact.to(dtype)
    for y in (low(x), streamed(low, x, [9, 1, 21])):
        assert y.dtype == dtype
        assert (y.double() - expected).abs().max() < 8 * torch.finfo(dtype).eps * expected.abs().max()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, "window is at least 1 token and sink_tokens at least 0, got 0 and 4"),
        ({"sink_tokens": -1}, "window is at least 1 token and sink_tokens at least 0, got 6 and -1"),
        ({"rope": RotaryEmbedding(8)}, r"heads have 4 channels, got RotaryEmbedding\(8\); make it 4"),
        ({"kv_heads": 3}, "kv_heads divides heads, both at least 1, got 3 and 4"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SinkAttention(DIM, 4, **{"window": 6, **options})


def test_a_cache_of_another_batch_is_refused():
    module = made(**OPTIONS["the paper's"])
    _, cache = module.stream(text(20), None)
    with pytest.raises(ValueError, match=r"the cache has .*\(2, 4, 9, 4\).*\(3, 4, 2, 4\).*begin a new text with None"):
        module.stream(text(2, n=3), cache)
