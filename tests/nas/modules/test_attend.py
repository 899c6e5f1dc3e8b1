"""Causal attention with window, sinks and bias, against softmax written out query by query in float64."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.modules import attend


def by_hand(q, k, v, *, window=None, first=0, bias=None, sink_logits=None, scale=None):
    """For each batch, head and query: the scores of the keys that it sees, their softmax, the sum of values."""
    n, heads, t, size = q.shape
    kv_heads, s = k.shape[1:3]
    scale = size**-0.5 if scale is None else scale
    rows = []
    for text, head, i in itertools.product(range(n), range(heads), range(t)):
        group = head // (heads // kv_heads)
        place = s - t + i
        seen = [key for key in range(s) if key <= place and (window is None or place - key < window or key < first)]
        scores = (k[text, group] @ q[text, head, i]) * scale
        if bias is not None:
            scores = scores + bias[head % len(bias), i]
        scores = scores[seen]
        if sink_logits is not None:
            scores = torch.cat((scores, sink_logits[head : head + 1]))
        weights = torch.exp(scores - scores.detach().max())
        weights = (weights / weights.sum())[: len(seen)]
        rows.append(weights @ v[text, group][seen])
    return torch.stack(rows).view(n, heads, t, v.shape[-1])


def draw(heads=2, kv_heads=2, t=6, s=6, size=4, value=4, n=2, dtype=torch.float64):
    torch.manual_seed(0)
    return tuple(
        torch.randn(shape, dtype=dtype)
        for shape in ((n, heads, t, size), (n, kv_heads, s, size), (n, kv_heads, s, value))
    )


def options_for(q, k, bias=None, sinks=False, **options):
    """Options with tensors drawn: a bias for so many heads, a logit for each head."""
    generator = torch.Generator().manual_seed(1)
    heads, t, s = q.shape[1], q.shape[2], k.shape[2]
    if bias:
        options["bias"] = torch.randn(heads if bias == "heads" else 1, t, s, generator=generator, dtype=q.dtype)
    if sinks:
        options["sink_logits"] = torch.randn(heads, generator=generator, dtype=q.dtype)
    return options


SHAPES = {
    "as many queries as keys": {"t": 9, "s": 9},
    "fewer queries than keys": {"t": 5, "s": 12},
    "most of the keys": {"t": 9, "s": 12},
    "one query": {"t": 1, "s": 9},
    "one token": {"t": 1, "s": 1},
    "groups": {"t": 9, "s": 9, "heads": 6, "kv_heads": 2},
    "groups with a cache": {"t": 4, "s": 11, "heads": 4, "kv_heads": 1},
    "many groups with a cache": {"t": 7, "s": 11, "heads": 18, "kv_heads": 2, "n": 1},
    "values of another size": {"t": 7, "s": 9, "size": 6, "value": 3},
}
OPTIONS = {
    "nothing": {},
    "a scale": {"scale": 0.3},
    "window 1": {"window": 1},
    "window 2": {"window": 2},
    "window 5": {"window": 5},
    "window 8": {"window": 8},
    "window 8 and first keys": {"window": 8, "first": 3},
    "window 9": {"window": 9},
    "window 40": {"window": 40},
    "first keys in blocks": {"window": 2, "first": 3},
    "first keys": {"window": 5, "first": 2},
    "a bias": {"bias": "heads"},
    "a bias of one head": {"bias": "one", "window": 3, "first": 1},
    "sinks": {"sinks": True},
    "sinks and a scale": {"sinks": True, "scale": 0.7},
    "sinks and a window": {"sinks": True, "window": 5},
    "sinks in blocks": {"sinks": True, "window": 3, "first": 1},
    "sinks and a bias": {"sinks": True, "bias": "heads", "window": 4},
}


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_attention_is_the_softmax_written_out(shape, options):
    q, k, v = draw(**SHAPES[shape])
    options = options_for(q, k, **{**OPTIONS[options], "first": min(OPTIONS[options].get("first", 0), k.shape[2])})
    torch.testing.assert_close(attend(q, k, v, **options), by_hand(q, k, v, **options), rtol=1e-12, atol=1e-12)


def test_queries_are_the_last_positions_where_torch_takes_them_for_the_first():
    q, k, v = draw(t=4, s=9)
    torchs = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    torch.testing.assert_close(torchs, by_hand(q, k[:, :, :4], v[:, :, :4]))
    assert (attend(q, k, v) - torchs).abs().amax(-1).min() > 0.01


@settings(max_examples=150)
@given(st.data())
def test_blocks_are_the_same_as_the_softmax_written_out(data):
    window = data.draw(st.integers(1, 5), "window")
    t = data.draw(st.integers(2 * window + 1, 5 * window + 3), "queries")
    s = t + data.draw(st.integers(0, 3 * window), "cached")
    kv_heads, groups = data.draw(st.integers(1, 2), "kv_heads"), data.draw(st.integers(1, 3), "groups")
    q, k, v = draw(kv_heads * groups, kv_heads, t, s, size=3, value=2, n=data.draw(st.integers(1, 2), "batch"))
    first = data.draw(st.integers(0, min(s, 2 * window + 2)), "first")
    options = options_for(q, k, sinks=data.draw(st.booleans(), "sinks"), window=window, first=first)
    torch.testing.assert_close(attend(q, k, v, **options), by_hand(q, k, v, **options), rtol=1e-12, atol=1e-12)


@settings(max_examples=100)
@given(st.data())
def test_any_sizes_are_the_same_as_the_softmax_written_out(data):
    t = data.draw(st.integers(1, 12), "queries")
    s = t + data.draw(st.integers(0, 8), "cached")
    kv_heads, groups = data.draw(st.integers(1, 2), "kv_heads"), data.draw(st.integers(1, 3), "groups")
    q, k, v = draw(kv_heads * groups, kv_heads, t, s, size=data.draw(st.integers(1, 5), "size"), value=2, n=1)
    options = options_for(
        q,
        k,
        window=data.draw(st.none() | st.integers(1, 15), "window"),
        first=data.draw(st.integers(0, s), "first"),
        bias=data.draw(st.sampled_from([None, "heads", "one"]), "bias"),
        sinks=data.draw(st.booleans(), "sinks"),
    )
    torch.testing.assert_close(attend(q, k, v, **options), by_hand(q, k, v, **options), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("t", [3, 12])
def test_more_first_keys_than_there_are_keys_are_all_keys(t):
    q, k, v = draw(t=t, s=12)
    torch.testing.assert_close(attend(q, k, v, window=2, first=50), by_hand(q, k, v))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("options", ["nothing", "window 2", "first keys in blocks", "sinks", "sinks and a bias"])
def test_low_precision_comes_back_and_is_near(options, dtype):
    q, k, v = draw(heads=4, t=9, s=12, size=8, dtype=dtype)
    options = options_for(q, k, **OPTIONS[options])
    wide = {name: value.double() if torch.is_tensor(value) else value for name, value in options.items()}
    found = attend(q, k, v, **options)
    assert found.dtype == dtype
    within = 8 * torch.finfo(dtype).eps
    torch.testing.assert_close(found.double(), by_hand(q.double(), k.double(), v.double(), **wide), rtol=0, atol=within)


GRADIENTS = {
    "all keys": ({"t": 4, "s": 4}, {}),
    "a cache": ({"t": 3, "s": 5}, {}),
    "a short piece": ({"t": 2, "s": 7}, {}),
    "groups and sinks": ({"t": 3, "s": 4, "heads": 4}, {"sinks": True}),
    "a bias, sinks, a window": ({"t": 4, "s": 5}, {"sinks": True, "bias": "heads", "window": 2, "first": 1}),
    "blocks": ({"t": 7, "s": 9, "heads": 4}, {"sinks": True, "window": 2, "first": 1, "scale": 0.8}),
}


@pytest.mark.parametrize("case", GRADIENTS)
def test_gradients_are_those_of_finite_differences(case):
    shape, options = GRADIENTS[case]
    q, k, v = draw(**{"size": 2, "value": 2, "n": 1, **shape})
    options = options_for(q, k, **options)
    names = [name for name, value in options.items() if torch.is_tensor(value)]
    tensors = [x.requires_grad_() for x in (q, k, v, *(options[name] for name in names))]

    def function(q, k, v, *more):
        return attend(q, k, v, **options | dict(zip(names, more, strict=True)))

    assert torch.autograd.gradcheck(function, tensors)


@pytest.mark.parametrize("first", [0, 3])
@pytest.mark.parametrize("t", [11, 12, 14])
def test_gradients_in_blocks_are_those_of_the_softmax_written_out(t, first):
    q, k, v = draw(heads=4, kv_heads=2, t=t, s=17)
    options = options_for(q, k, sinks=True, window=4, first=first)
    inputs = [x.requires_grad_() for x in (q, k, v, options["sink_logits"])]
    incoming = torch.randn(q.shape, dtype=q.dtype)
    found, expected = (
        torch.autograd.grad(function(q, k, v, **options), inputs, incoming) for function in (attend, by_hand)
    )
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("window", [None, 2, 5])
def test_a_high_sink_takes_all_attention_and_a_low_one_none(window):
    q, k, v = draw(heads=4, t=8, s=10)
    high, low = (torch.full((4,), value, dtype=q.dtype) for value in (60.0, -60.0))
    assert attend(q, k, v, window=window, sink_logits=high).abs().max() < 1e-20
    torch.testing.assert_close(attend(q, k, v, window=window, sink_logits=low), by_hand(q, k, v, window=window))


def saved_bytes(t, **options):
    q, k, v = (x.requires_grad_() for x in draw(t=t, s=t, n=1))
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.nbytes) or x, lambda x: x):
        attend(q, k, v, **options)
    return sum(sizes)


@pytest.mark.parametrize("options", [{"window": 8}, {"window": 8, "first": 4}, {"window": 1}])
def test_memory_of_a_window_grows_with_the_tokens_and_not_with_their_square(options):
    one, two, four = (saved_bytes(t, **options) for t in (160, 320, 640))
    assert four - two == pytest.approx(2 * (two - one), rel=0.01)


def test_memory_of_a_bias_grows_with_the_square():
    one, two, four = (saved_bytes(t, window=8, bias=torch.zeros(1, t, t)) for t in (160, 320, 640))
    assert four - two > 3.5 * (two - one)


@pytest.mark.parametrize(
    ("q", "k"),
    [
        ((1, 2, 5, 4), (1, 2, 4, 4)),
        ((1, 3, 4, 4), (1, 2, 4, 4)),
        ((1, 2, 4, 4), (1, 4, 4, 4)),
        ((1, 2, 4, 4), (1, 2, 4, 3)),
    ],
)
def test_queries_that_do_not_fit_the_keys_are_refused(q, k):
    with pytest.raises(ValueError, match="kv_heads divides heads") as caught:
        attend(torch.zeros(q), torch.zeros(k), torch.zeros(k))
    assert f"queries {q}, keys {k} and values {k}" in str(caught.value)


@pytest.mark.parametrize(
    ("q", "k", "v"),
    [
        ((1, 2, 1, 4), (1, 2, 9, 4), (1, 2, 8, 4)),
        ((1, 2, 4, 4), (2, 2, 4, 4), (2, 2, 4, 4)),
        ((2, 4, 4), (2, 4, 4), (2, 4, 4)),
    ],
)
def test_a_value_belongs_to_each_key(q, k, v):
    with pytest.raises(ValueError, match="with a value for each key; got queries"):
        attend(torch.zeros(q), torch.zeros(k), torch.zeros(v))


@pytest.mark.parametrize("window", [0, -1])
def test_a_window_below_one_token_is_refused(window):
    q, k, v = draw()
    with pytest.raises(ValueError, match=f"at least 1 token.*{window}"):
        attend(q, k, v, window=window)
