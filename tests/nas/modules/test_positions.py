"""Positions added to embeddings or scores, against the papers' formulas and published numbers."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch

from nas.modules import AlibiBias, LearnedPositions, RelativeBias, SinusoidalPositions
from tests.nas.modules.exact_rotations import assert_near, drawn

T5 = [(32, 128), (8, 20)]


def sinusoids(start, tokens, dim, base=10_000.0):
    """P[m, 2i] = sin(m / base^(2i / dim)), P[m, 2i + 1] = cos(the same), in float64."""
    out = np.empty((tokens, dim))
    for t in range(tokens):
        for i in range(dim // 2):
            angle = (start + t) / np.float64(base) ** (2 * i / dim)
            out[t, 2 * i], out[t, 2 * i + 1] = np.sin(angle), np.cos(angle)
    return torch.from_numpy(out)


@pytest.mark.parametrize("start", [0, 1, 131_072, 1_000_000, -4])
@pytest.mark.parametrize("dim", [2, 6, 64])
def test_sinusoids_are_the_paper_s(dim, start):
    x = drawn(2, 9, dim)
    expected = x + sinusoids(start, 9, dim)
    assert_near(SinusoidalPositions(dim)(x, start), expected, 1e-14 + abs(start) * 3e-16)
    assert_near(SinusoidalPositions(dim)(x.float(), start), expected, 6e-7)


def test_sinusoids_of_another_base():
    x = drawn(1, 9, 6)
    assert_near(SinusoidalPositions(6, 500_000.0)(x, 100), x + sinusoids(100, 9, 6, 500_000.0), 1e-12)


@pytest.mark.parametrize("start", [0, 1_000_000])
def test_sinusoids_in_bfloat16_are_rounded_once(start):
    """Two roundings of half a unit: of P, at most 1 in size, and of the sum. Positions in bfloat16 would be lost."""
    x = drawn(2, 9, 16, dtype=torch.bfloat16)
    found = SinusoidalPositions(16).bfloat16()(x, start)
    exact = x.double() + sinusoids(start, 9, 16)
    assert found.dtype == torch.bfloat16
    assert ((found.double() - exact).abs() <= 2**-9 + exact.abs() * 2**-8 + 2**-16).all()


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.half(),
        lambda m: m.to(torch.bfloat16).float(),
        lambda m: m.double(),
        lambda m: m.to("meta").to_empty(device="cpu"),
        copy.deepcopy,
    ],
)
def test_sinusoids_are_right_whatever_happened_to_the_module(change):
    module = change(SinusoidalPositions(16))
    assert not module.state_dict()
    assert not list(module.parameters())
    assert_near(module(torch.zeros(1, 5, 16), 131_072)[0], sinusoids(131_072, 5, 16), 4e-7)


def test_sinusoids_made_on_the_meta_device_are_right_once_they_have_memory():
    with torch.device("meta"):
        module = SinusoidalPositions(16)
    assert_near(module.to_empty(device="cpu")(torch.zeros(1, 5, 16), 7)[0], sinusoids(7, 5, 16), 4e-7)


def test_learned_positions_are_rows_from_the_offset_on():
    positions, x = LearnedPositions(10, 4), drawn(3, 4, 4, dtype=torch.float32)
    for offset in (0, 3, 6):
        found = positions(x, offset)
        for n in range(3):
            for t in range(4):
                assert torch.equal(found[n, t], x[n, t] + positions.weight[offset + t])
    assert torch.equal(positions(x), positions(x, 0))
    assert positions(x.bfloat16()).dtype == torch.bfloat16


def test_learned_positions_start_small_and_learn_where_they_are_used():
    torch.manual_seed(0)
    positions = LearnedPositions(1000, 64)
    assert positions.weight.std().item() == pytest.approx(0.02, rel=0.02)
    positions(torch.zeros(3, 4, 64), 5).sum().backward()
    expected = torch.zeros(1000, 64)
    expected[5:9] = 3
    assert torch.equal(positions.weight.grad, expected)


@pytest.mark.parametrize(
    ("heads", "exponents"),
    [
        (1, [8]),
        (2, [4, 8]),
        (4, [2, 4, 6, 8]),
        (8, [1, 2, 3, 4, 5, 6, 7, 8]),
        (12, [1, 2, 3, 4, 5, 6, 7, 8, 0.5, 1.5, 2.5, 3.5]),
        (16, [0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 5.5, 6, 6.5, 7, 7.5, 8]),
        (6, [2, 4, 6, 8, 1, 3]),
        (3, [4, 8, 2]),
    ],
)
def test_alibi_slopes_are_the_published_ones(heads, exponents):
    assert AlibiBias(heads).slopes().tolist() == pytest.approx([2.0**-e for e in exponents], rel=2e-7, abs=0)


def test_alibi_is_minus_slope_times_distance():
    distance = torch.tensor([[5, 4, 0], [6, 5, 1]])
    found = AlibiBias(8)(distance)
    assert found.dtype == torch.float32
    assert found.shape == (8, 2, 3)
    for h in range(8):
        for i in range(2):
            for j in range(3):
                assert found[h, i, j].item() == -(2.0 ** -(h + 1)) * distance[i, j].item()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_alibi_is_float32_whatever_the_default_dtype(dtype):
    torch.set_default_dtype(dtype)
    try:
        found = AlibiBias(12)(torch.tensor([[4097, 3]]))
    finally:
        torch.set_default_dtype(torch.float32)
    assert found.dtype == torch.float32
    assert found[0, 0].tolist() == [-2048.5, -1.5]


def test_alibi_has_nothing_to_train_or_to_save():
    assert not AlibiBias(12).state_dict()
    assert not list(AlibiBias(12).parameters())


def t5_bucket(distance, buckets, most):
    """The rule for causal attention: exact up to half of the buckets, logarithmic to ``most``, then the last."""
    exact = buckets // 2
    if distance < exact:
        return distance
    return min(exact + int(math.log(distance / exact) / math.log(most / exact) * (buckets - exact)), buckets - 1)


def exact_bucket(distance, buckets, most):
    """The same without rounding: log(n / e) / log(m / e) * c >= k exactly where n^c e^k >= m^k e^c."""
    e, c = buckets // 2, buckets - buckets // 2
    if distance < e:
        return distance
    return e + max(k for k in range(c) if distance**c * e**k >= most**k * e**c)


@pytest.mark.parametrize(("buckets", "most"), T5)
def test_buckets_follow_t5_s_rule(buckets, most):
    found = RelativeBias(2, buckets, most).bucket(torch.arange(301))
    assert found.dtype == torch.int64
    assert found.tolist() == [t5_bucket(distance, buckets, most) for distance in range(301)]
    assert found.max() == buckets - 1


@pytest.mark.parametrize(
    ("buckets", "most"), [*T5, (2, 5), (4, 8), (16, 64), (32, 256), (32, 1024), (10, 160), (20, 320), (6, 24)]
)
def test_a_distance_on_the_edge_of_two_buckets_is_in_the_upper_one(buckets, most):
    found = RelativeBias(2, buckets, most).bucket(torch.arange(most + 2))
    assert found.tolist() == [exact_bucket(distance, buckets, most) for distance in range(most + 2)]


@pytest.mark.parametrize(("buckets", "most"), T5)
def test_a_relative_bias_is_the_bucket_s_number_for_each_head(buckets, most):
    bias = RelativeBias(3, buckets, most)
    assert torch.equal(bias(torch.arange(4)[None]), torch.zeros(3, 1, 4))
    bias.weight.data = torch.arange(buckets * 3.0).view(buckets, 3)
    distance = torch.tensor([[0, 1, 5, most - 1, most], [-3, 2, 17, most + 1, 100_000]])
    found = bias(distance)
    assert found.shape == (3, 2, 5)
    for h in range(3):
        for i in range(2):
            for j in range(5):
                bucket = t5_bucket(max(distance[i, j].item(), 0), buckets, most)
                assert found[h, i, j].item() == bias.weight[bucket, h].item()


def test_a_relative_bias_learns_from_every_pair_in_its_bucket():
    bias = RelativeBias(2, 8, 20)
    distance = torch.arange(30)[:, None] - torch.arange(30)
    bias(distance).sum().backward()
    expected = [0] * 8
    for i in range(30):
        for j in range(30):
            expected[t5_bucket(max(i - j, 0), 8, 20)] += 1
    assert bias.weight.grad.tolist() == [[count, count] for count in expected]


def test_all_compile_without_a_break():
    sinusoidal, learned, alibi, relative = SinusoidalPositions(4), LearnedPositions(9, 4), AlibiBias(3), RelativeBias(2)

    def all_of_them(x, distance, offset):
        return sinusoidal(x, offset), learned(x, offset), alibi(distance), relative(distance)

    x, distance = drawn(2, 3, 4, dtype=torch.float32), torch.tensor([[9, 3, 0], [200, 1, 17]])
    compiled = torch.compile(all_of_them, backend="aot_eager", fullgraph=True)
    for found, expected in zip(compiled(x, distance, 5), all_of_them(x, distance, 5), strict=True):
        assert_near(found, expected, 1e-6)


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("dim is even, got 5; take 4", lambda: SinusoidalPositions(5)),
        ("dim is even, got 0; take 2", lambda: SinusoidalPositions(0)),
        ("base is a finite number above 1, got 1", lambda: SinusoidalPositions(4, 1)),
        ("base is a finite number above 1, got nan", lambda: SinusoidalPositions(4, math.nan)),
        (
            r"SinusoidalPositions takes \(batch, tokens, 4\), got \(2, 3, 6\)",
            lambda: SinusoidalPositions(4)(torch.zeros(2, 3, 6)),
        ),
        (r"SinusoidalPositions takes .* got \(3, 4\)", lambda: SinusoidalPositions(4)(torch.zeros(3, 4))),
        (
            r"LearnedPositions takes \(batch, tokens, 4\), got \(2, 3, 6\)",
            lambda: LearnedPositions(9, 4)(torch.zeros(2, 3, 6)),
        ),
        ("for 9 tokens, got positions 0 to 9; shorten the text", lambda: LearnedPositions(9, 4)(torch.zeros(1, 10, 4))),
        ("for 9 tokens, got positions 7 to 9", lambda: LearnedPositions(9, 4)(torch.zeros(1, 3, 4), 7)),
        ("for 9 tokens, got positions -1 to 1", lambda: LearnedPositions(9, 4)(torch.zeros(1, 3, 4), -1)),
        ("heads is at least 1, got 0", lambda: AlibiBias(0)),
        ("got 7 and 128; T5 takes 32 and 128", lambda: RelativeBias(2, 7)),
        ("got 0 and 128; T5 takes 32 and 128", lambda: RelativeBias(2, 0)),
        ("max_distance above buckets / 2, got 32 and 16", lambda: RelativeBias(2, 32, 16)),
    ],
)
def test_what_does_not_fit_is_refused_in_words(message, call):
    with pytest.raises(ValueError, match=message):
        call()
