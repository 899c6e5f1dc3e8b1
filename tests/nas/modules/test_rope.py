"""Rotary position embedding and the conversion of its layouts, against rotation matrices in float64."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nas.modules import RotaryEmbedding, convert_layout
from tests.nas.modules.exact_rotations import LAYOUTS, angles, assert_near, drawn, pairs, rotated

BASES = (10_000.0, 500_000.0)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("dim", [2, 6, 64])
def test_a_pair_is_turned_by_position_times_frequency(layout, base, dim):
    x = drawn(2, 3, 9, dim)
    found = RotaryEmbedding(dim, base, layout=layout)(x, 5)
    assert_near(found, rotated(x, angles(range(5, 14), dim, base), layout), 1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_dtype_of_the_input_is_kept_and_rounded_to_once(layout, dtype):
    x = drawn(2, 3, 9, 16, dtype=dtype)
    before = x.clone()
    found = RotaryEmbedding(16, layout=layout)(x, 100)
    exact = rotated(x, angles(range(100, 109), 16), layout)
    assert found.dtype == dtype
    assert ((found.double() - exact).abs() <= torch.finfo(dtype).eps / 2 * exact.abs() + 2e-6).all()
    assert torch.equal(x, before)


def test_the_layouts_differ_by_a_permutation_of_channels():
    x = drawn(2, 3, 9, 8)
    order = [0, 2, 4, 6, 1, 3, 5, 7]
    interleaved = RotaryEmbedding(8, layout="interleaved")(x, 77)
    assert_near(RotaryEmbedding(8, layout="half")(x[..., order], 77), interleaved[..., order], 1e-15)
    assert not torch.allclose(RotaryEmbedding(8, layout="half")(x, 77), interleaved)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_partial_rotation_leaves_the_other_channels_untouched(layout):
    x = drawn(2, 3, 9, 10, dtype=torch.bfloat16)
    found = RotaryEmbedding(10, layout=layout, rotary_dim=6)(x, 1000)
    assert torch.equal(found[..., 6:], x[..., 6:])
    exact = rotated(x, angles(range(1000, 1009), 6), layout)
    assert_near(RotaryEmbedding(10, layout=layout, rotary_dim=6)(x.double(), 1000), exact, 1e-12)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_positions_are_an_offset_or_one_for_each_token_or_each_text_s_own(layout):
    rope = RotaryEmbedding(6, layout=layout)
    x = drawn(3, 2, 4, 6)
    own = torch.tensor([[0, 1, 2, 3], [70, 71, 72, 73], [9, 2, 2, -5]])
    ragged = rope(x, own)
    for n in range(3):
        expected = rotated(x[n], angles(own[n], 6), layout)
        assert_near(ragged[n], expected, 1e-12)
        assert_near(rope(x, own[n])[n], expected, 1e-12)
        assert_near(rope(x[n], own[n]), expected, 1e-12)
        assert_near(rope(x[n, 0], own[n]), expected[0], 1e-12)
    assert_near(rope(x, 70)[1], ragged[1], 1e-15)
    assert_near(rope(x)[0], ragged[0], 1e-15)
    assert_near(rope(x, -3)[0], rotated(x[0], angles(range(-3, 1), 6), layout), 1e-12)


@pytest.mark.parametrize("positions", [7, torch.tensor([[3, 1], [8, 9]])])
def test_one_table_serves_queries_and_keys_with_fewer_heads(positions):
    rope = RotaryEmbedding(4)
    q, k = drawn(2, 6, 2, 4), drawn(2, 3, 2, 4)
    table = rope.table(q, positions)
    assert torch.equal(rope.rotate(q, table), rope(q, positions))
    assert torch.equal(rope.rotate(k, table), rope(k, positions))


def test_a_call_does_not_depend_on_the_calls_before_it():
    rope = RotaryEmbedding(4, layout="interleaved")
    for dtype, start, tokens in [("float64", 0, 9), ("bfloat16", 7, 3), ("float64", 7, 3), ("float32", 0, 5)]:
        x = drawn(1, 1, tokens, 4, dtype=getattr(torch, dtype))
        expected = rotated(x, angles(range(start, start + tokens), 4), "interleaved")
        assert_near(rope(x, start), expected, {"float64": 1e-12, "float32": 1e-6, "bfloat16": 0.01}[dtype])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_memory_layout(layout):
    rope, angle = RotaryEmbedding(6, layout=layout), angles(range(5), 6)
    x = drawn(2, 5, 3, 15)
    for view in (x.transpose(1, 2)[..., 1:7], x[..., :1, ::2].transpose(1, 2)[..., :6], drawn(2, 3, 6, 5).mT):
        assert not view.is_contiguous()
        assert_near(rope(view), rotated(view.contiguous(), angle, layout), 1e-12)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_gradient_is_turned_back(layout):
    x, incoming = drawn(2, 3, 9, 8).requires_grad_(), drawn(2, 3, 9, 8) + 1
    RotaryEmbedding(8, layout=layout, rotary_dim=6)(x, 40).backward(incoming)
    assert_near(x.grad, rotated(incoming, -angles(range(40, 49), 6), layout), 1e-12)


# Phases as integers add without error, so what follows holds however far away.
positions = st.integers(0, 100_000)
shifts = st.integers(-(2**61), 2**61)


@given(m=positions, n=positions, shift=shifts, layout=st.sampled_from(LAYOUTS), base=st.sampled_from(BASES))
def test_scores_depend_on_the_distance_alone(m, n, shift, layout, base):
    rope = RotaryEmbedding(8, base, layout=layout)
    q, k = drawn(2, 1, 8)
    for dtype, atol in ((torch.float64, 1e-13), (torch.float32, 1e-5)):
        a, b = q.to(dtype), k.to(dtype)
        scores = [(rope(a, m + by) * rope(b, n + by)).sum() for by in (0, shift)]
        assert_near(*scores, atol)
        assert_near((rope(a, m - n) * b).sum(), scores[0], atol)


@given(position=shifts, layout=st.sampled_from(LAYOUTS), base=st.sampled_from(BASES))
def test_every_pair_keeps_its_length(position, layout, base):
    x = drawn(1, 8)
    for dtype, atol in ((torch.float64, 1e-14), (torch.float32, 1e-6)):
        found = RotaryEmbedding(8, base, layout=layout)(x.to(dtype), position)
        for a, b in pairs(8, layout):
            assert_near(found[0, a].hypot(found[0, b]), x[0, a].hypot(x[0, b]), atol)


def test_conversion_permutes_rows_within_heads():
    rows = torch.arange(16)
    expected = [0, 2, 4, 1, 3, 5, 6, 7, 8, 10, 12, 9, 11, 13, 14, 15]
    assert convert_layout(rows, 2, "half", rotary_dim=6).tolist() == expected
    weight = drawn(24, 5)  # Hugging Face's conversion of Llama's weights
    theirs = weight.view(3, 4, 2, 5).transpose(1, 2).reshape(24, 5)
    assert torch.equal(convert_layout(weight, 3, "half"), theirs)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("rotary_dim", [None, 6, 2])
@pytest.mark.parametrize("shape", [(24, 5), (24,)])
def test_conversion_there_and_back_changes_nothing(layout, rotary_dim, shape):
    weight = drawn(*shape)
    there = convert_layout(weight, 3, layout, rotary_dim)
    assert there.shape == weight.shape
    assert torch.equal(convert_layout(there, 3, LAYOUTS[layout == "half"], rotary_dim), weight)


@pytest.mark.parametrize("to", LAYOUTS)
@pytest.mark.parametrize("rotary_dim", [8, 4])
def test_converted_projections_give_the_same_scores_in_the_other_layout(to, rotary_dim):
    x = drawn(2, 5, 12)

    def scores(projections, layout):
        rope = RotaryEmbedding(8, layout=layout, rotary_dim=rotary_dim)
        q, k = (rope((x @ w.T + b).unflatten(-1, (-1, 8)).transpose(1, 2), 33) for w, b in projections)
        return q @ k.repeat_interleave(2, 1).mT

    old = [(drawn(n * 8, 12), drawn(n * 8) + n) for n in (4, 2)]  # 4 heads of queries, 2 of keys
    new = [tuple(convert_layout(p, n, to, rotary_dim) for p in ps) for ps, n in zip(old, (4, 2), strict=True)]
    before = scores(old, LAYOUTS[to == "half"])
    assert_near(scores(new, to), before, 1e-11)
    assert not torch.allclose(scores(old, to), before)


@pytest.mark.parametrize(
    ("message", "dim", "options"),
    [
        ("even, from 2 to dim=7; got 7; take rotary_dim=6", 7, {}),
        ("even, from 2 to dim=8; got 10; take rotary_dim=8", 8, {"rotary_dim": 10}),
        ("even, from 2 to dim=8; got 0; take rotary_dim=2", 8, {"rotary_dim": 0}),
        ("base is a finite number above 1, got 1; the paper takes 10,000", 8, {"base": 1}),
        ("base is a finite number above 1, got nan", 8, {"base": math.nan}),
        ("base is a finite number above 1, got inf", 8, {"base": math.inf}),
        ("layout is half or interleaved, got 'neox'", 8, {"layout": "neox"}),
    ],
)
def test_a_rotation_that_cannot_be_is_refused(message, dim, options):
    with pytest.raises(ValueError, match=message):
        RotaryEmbedding(dim, **options)


@pytest.mark.parametrize(
    ("message", "shape", "positions"),
    [
        (r"x ends in \(tokens, 8\), got \(2, 5, 16\); split heads first", (2, 5, 16), 0),
        (r"x ends in \(tokens, 8\), got \(8,\)", (8,), 0),
        ("int64, got torch.float32; floats would lose them", (3, 8), torch.zeros(3)),
        ("int64, got torch.int32", (3, 8), torch.zeros(3, dtype=torch.int32)),
        (r"got \(4,\) for \(3, 8\)", (3, 8), torch.arange(4)),
        (r"got \(1, 3\) for \(2, 1, 3, 8\)", (2, 1, 3, 8), torch.arange(3)[None]),
        (r"\(batch, tokens\) where x is \(batch, heads.*got \(2, 3\) for", (2, 3, 8), torch.arange(6).view(2, 3)),
    ],
)
def test_inputs_that_do_not_fit_are_refused(message, shape, positions):
    with pytest.raises(ValueError, match=message):
        RotaryEmbedding(8)(torch.zeros(shape), positions)


@pytest.mark.parametrize(
    ("message", "rows", "count", "to", "rotary_dim"),
    [
        ("2 heads.*got 9 rows.*own number of heads", 9, 2, "half", None),
        ("2 heads.*got 6 rows and rotary_dim=3", 6, 2, "half", None),
        ("2 heads.*got 8 rows and rotary_dim=6", 8, 2, "half", 6),
        ("0 heads.*got 8 rows", 8, 0, "half", None),
        ("to is half or interleaved, got 'gptj'", 8, 2, "gptj", None),
    ],
)
def test_weights_that_do_not_fit_are_refused(message, rows, count, to, rotary_dim):
    with pytest.raises(ValueError, match=message):
        convert_layout(torch.zeros(rows, 2), count, to, rotary_dim)


def test_whole_numbers_are_not_rotated_and_fractions_are_no_positions():
    with pytest.raises(ValueError, match=r"floating-point numbers, got torch.int64"):
        RotaryEmbedding(4)(torch.zeros(3, 4).long())
    with pytest.raises(ValueError, match=r"whole numbers, got 2.5"):
        RotaryEmbedding(4)(torch.zeros(3, 4), 2.5)
