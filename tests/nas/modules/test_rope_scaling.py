"""Scalings of rotary frequencies against their papers' formulas, one pair at a time in Python's floats."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch

from nas.modules import (
    DynamicNTKScaling,
    LinearScaling,
    Llama3Scaling,
    LongRoPEScaling,
    NoScaling,
    NTKScaling,
    RotaryEmbedding,
    YaRNScaling,
)
from tests.nas.modules.exact_rotations import LAYOUTS, assert_near, drawn, rotated

SHORT, LONG = (1.0, 1.1, 1.3, 2.0), (1.0, 2.5, 7.0, 30.0)
LENGTH_DEPENDENT = (DynamicNTKScaling(4.0, 16), LongRoPEScaling(SHORT, LONG, 16, 4.0))


def plain(dim, base):
    return [base ** (-2 * i / dim) for i in range(dim // 2)]


def ntk(dim, base, alpha):
    return plain(dim, base * alpha ** (dim / (dim - 2)))


def dynamic_ntk(dim, base, factor, original, length):
    return ntk(dim, base, factor * max(length, original) / original - (factor - 1))


def yarn(dim, base, factor, original, fast=32.0, slow=1.0, truncate=True):
    low = dim * math.log(original / (2 * math.pi * fast)) / (2 * math.log(base))
    high = dim * math.log(original / (2 * math.pi * slow)) / (2 * math.log(base))
    if truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    out = []
    for i, f in enumerate(plain(dim, base)):
        r = min(max((i - low) / (high - low), 0.0), 1.0)
        out.append(f * (1 - r) + f / factor * r)
    return out


def llama3_regime(f, low, high, original):
    wavelength = 2 * math.pi / f
    if wavelength > original / low:
        return "long"
    return "short" if wavelength < original / high else "between"


def llama3(dim, base, factor=8.0, low=1.0, high=4.0, original=8192):
    out = []
    for f in plain(dim, base):
        m = (original / (2 * math.pi / f) - low) / (high - low)
        out.append(
            {"long": f / factor, "short": f, "between": ((1 - m) / factor + m) * f}[
                llama3_regime(f, low, high, original)
            ]
        )
    return out


def longrope(dim, base, original, length):
    return [f / e for f, e in zip(plain(dim, base), LONG if length > original else SHORT, strict=True)]


def frequencies(scaling, dim, base, length=0):
    found = scaling.frequencies(dim, base, torch.tensor(length))
    assert found.dtype == torch.float64
    return found.tolist()


def near(values):
    return pytest.approx(values, rel=1e-13, abs=0)


@pytest.mark.parametrize("base", [10_000.0, 500_000.0])
@pytest.mark.parametrize("dim", [4, 64, 128])
def test_fixed_scalings_follow_their_formulas(dim, base):
    assert frequencies(NoScaling(), dim, base) == near(plain(dim, base))
    assert frequencies(LinearScaling(4.0), dim, base) == near([f / 4 for f in plain(dim, base)])
    assert frequencies(NTKScaling(8.0), dim, base) == near(ntk(dim, base, 8.0))
    assert frequencies(Llama3Scaling(), dim, base) == near(llama3(dim, base))
    assert frequencies(Llama3Scaling(32.0, 2.0, 5.0, 4096), dim, base) == near(llama3(dim, base, 32.0, 2.0, 5.0, 4096))


def test_ntk_keeps_the_highest_frequency_and_divides_the_lowest():
    found = frequencies(NTKScaling(8.0), 64, 10_000.0)
    assert found[0] == 1
    assert found[-1] == near(plain(64, 10_000.0)[-1] / 8)


@pytest.mark.parametrize("length", [1, 4095, 4096, 4097, 10_000, 1_000_000])
@pytest.mark.parametrize("dim", [4, 128])
def test_dynamic_ntk_stretches_the_base_from_the_original_length_on(dim, length):
    found = frequencies(DynamicNTKScaling(4.0, 4096), dim, 10_000.0, length)
    assert found == near(dynamic_ntk(dim, 10_000.0, 4.0, 4096, length))
    assert (found == near(plain(dim, 10_000.0))) == (length <= 4096)


@pytest.mark.parametrize("truncate", [True, False])
@pytest.mark.parametrize(
    ("dim", "base", "factor", "original", "fast", "slow"),
    [
        (128, 10_000.0, 16.0, 4096, 32.0, 1.0),  # Llama 2 in the paper
        (64, 150_000.0, 32.0, 4096, 32.0, 1.0),  # gpt-oss
        (128, 10_000.0, 8.0, 2048, 16.0, 2.0),
        (64, 10_000.0, 4.0, 64, 32.0, 1.0),  # lo is below 0
        (8, 10.0, 4.0, 400, 32.0, 1.0),  # hi is above dim - 1
    ],
)
def test_yarn_ramps_from_unscaled_to_divided(truncate, dim, base, factor, original, fast, slow):
    found = frequencies(YaRNScaling(factor, original, fast, slow, truncate=truncate), dim, base)
    assert found == near(yarn(dim, base, factor, original, fast, slow, truncate))


def test_yarn_truncates_unless_told_otherwise():
    rounded = frequencies(YaRNScaling(32.0, 4096), 64, 150_000.0)
    assert rounded == near(yarn(64, 150_000.0, 32.0, 4096))
    assert rounded != near(yarn(64, 150_000.0, 32.0, 4096, truncate=False))


def test_yarn_with_no_room_for_a_ramp_stays_between_the_two():
    for f, found in zip(plain(64, 10_000.0), frequencies(YaRNScaling(4.0, 6), 64, 10_000.0), strict=True):
        assert found == near(f) or found == near(f / 4)


@pytest.mark.parametrize("regime", ["short", "between", "long"])
def test_llama3_scales_by_wavelength(regime):
    seen = 0
    for f, found in zip(plain(128, 500_000.0), frequencies(Llama3Scaling(), 128, 500_000.0), strict=True):
        if llama3_regime(f, 1, 4, 8192) == regime:
            seen += 1
            m = (8192 * f / (2 * math.pi) - 1) / 3
            assert found == near({"short": f, "long": f / 8, "between": (1 - m) * f / 8 + m * f}[regime])
    assert seen >= 5


@pytest.mark.parametrize("length", [1, 16, 17, 1000])
def test_longrope_takes_long_factors_beyond_the_original_length(length):
    assert frequencies(LENGTH_DEPENDENT[1], 8, 10_000.0, length) == near(longrope(8, 10_000.0, 16, length))


def test_scales_of_cos_and_sin():
    for scaling in (NoScaling(), LinearScaling(4.0), NTKScaling(4.0), DynamicNTKScaling(4.0, 16), Llama3Scaling()):
        assert scaling.attention_scale == 1
    assert YaRNScaling(16.0, 4096).attention_scale == near(0.1 * math.log(16) + 1)
    assert YaRNScaling(16.0, 4096, scale=1.25).attention_scale == 1.25
    longrope = LongRoPEScaling(SHORT, LONG, 4096, 32.0)
    assert longrope.attention_scale == near(math.sqrt(1 + math.log(32) / math.log(4096)))
    assert LongRoPEScaling(SHORT, LONG, 4096, 32.0, 1.25).attention_scale == 1.25


@pytest.mark.parametrize("scaling", [LinearScaling(1), NTKScaling(1), YaRNScaling(1, 64), Llama3Scaling(1)])
def test_a_factor_of_1_changes_nothing(scaling):
    assert frequencies(scaling, 16, 10_000.0) == near(plain(16, 10_000.0))
    assert scaling.attention_scale == 1


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("rotary_dim", [8, 12])
def test_rotation_takes_scaled_frequencies_and_scale_for_the_rotated_channels_alone(layout, rotary_dim):
    x = drawn(2, 3, 5, 12)
    rope = RotaryEmbedding(12, 500.0, layout=layout, rotary_dim=rotary_dim, scaling=YaRNScaling(4.0, 256))
    expected = rotated(x, np.outer(range(40, 45), yarn(rotary_dim, 500.0, 4.0, 256)), layout)
    expected[..., :rotary_dim] *= 0.1 * math.log(4) + 1
    assert_near(rope(x, 40), expected, 1e-12)
    assert_near(rope(x.float(), 40), expected, 2e-6)


def by_length(scaling, x, positions, length):
    """Rotation of x (heads, T, 8) by the formula of one of LENGTH_DEPENDENT."""
    if isinstance(scaling, DynamicNTKScaling):
        f, scale = dynamic_ntk(8, 10_000.0, 4.0, 16, length), 1
    else:
        f, scale = longrope(8, 10_000.0, 16, length), math.sqrt(1 + math.log(4) / math.log(16))
    return rotated(x, np.outer(positions, f), "half") * scale


@pytest.mark.parametrize("scaling", LENGTH_DEPENDENT)
@pytest.mark.parametrize(
    ("start", "length"), [(0, None), (11, None), (12, None), (0, 16), (0, 17), (40, 10), (40, 500)]
)
def test_the_length_is_the_one_given_or_else_the_last_position_plus_1(scaling, start, length):
    rope, x = RotaryEmbedding(8, scaling=scaling), drawn(3, 5, 8)
    assert rope.needs_length
    expected = by_length(scaling, x, range(start, start + 5), start + 5 if length is None else length)
    assert_near(rope(x, start, length), expected, 1e-12)
    assert_near(rope(x, torch.arange(start, start + 5), length), expected, 1e-12)


@pytest.mark.parametrize("scaling", LENGTH_DEPENDENT)
def test_ragged_texts_share_the_length_of_the_longest(scaling):
    x, own = drawn(2, 3, 4, 8), torch.tensor([[0, 1, 2, 3], [60, 61, 62, 63]])
    found = RotaryEmbedding(8, scaling=scaling)(x, own)
    for n in range(2):
        assert_near(found[n], by_length(scaling, x[n], own[n].numpy(), 64), 1e-12)


@pytest.mark.parametrize("scaling", [*LENGTH_DEPENDENT, YaRNScaling(4.0, 16), Llama3Scaling(original_length=64)])
def test_parts_of_a_text_of_known_length_are_rotated_as_the_whole(scaling):
    rope, x = RotaryEmbedding(8, scaling=scaling), drawn(1, 2, 40, 8)
    parts = [rope(x[:, :, i : i + 7], i, 40) for i in range(0, 40, 7)]
    assert_near(torch.cat(parts, 2), rope(x), 1e-14)


@pytest.mark.parametrize("scaling", [*LENGTH_DEPENDENT, YaRNScaling(4.0, 16)])
def test_casts_copies_and_the_meta_device_change_nothing(scaling):
    x = drawn(2, 5, 8)
    expected = RotaryEmbedding(8, scaling=scaling)(x, 300)
    with torch.device("meta"):
        made = RotaryEmbedding(8, scaling=scaling)
    for rope in (made.to_empty(device="cpu"), copy.deepcopy(made).to_empty(device="cpu").bfloat16(), made.half()):
        assert torch.equal(rope(x, 300), expected)
        assert not rope.state_dict()


@pytest.mark.parametrize("scaling", LENGTH_DEPENDENT)
def test_a_length_in_the_data_does_not_break_the_graph(scaling):
    rope, x = RotaryEmbedding(8, scaling=scaling), drawn(2, 3, 4, 8)
    compiled = torch.compile(lambda x, own: rope(x, own), backend="eager", fullgraph=True)
    for start in (0, 13, 500):
        own = torch.arange(start, start + 4).expand(2, 4)
        assert_near(compiled(x, own), by_length(scaling, x, own[0].numpy(), start + 4), 1e-12)


@pytest.mark.parametrize("scaling", [None, *LENGTH_DEPENDENT])
def test_a_text_of_no_tokens_stays_one(scaling):
    assert RotaryEmbedding(8, scaling=scaling)(torch.zeros(2, 3, 0, 8), 20).shape == (2, 3, 0, 8)


@pytest.mark.parametrize("factor", [0.5, 0.25, 0.05, 0.001])
def test_factors_below_1_speed_up(factor):
    rope, x = RotaryEmbedding(2, scaling=LongRoPEScaling([factor], [1.0], 100)), drawn(10, 2)
    assert_near(rope(x), rotated(x, np.outer(range(10), [1 / factor]), "half"), 1e-10)


def test_factors_are_copied():
    factors = list(SHORT)
    scaling = LongRoPEScaling(factors, LONG, 16)
    factors[0] = 9.0
    assert scaling.short == SHORT
    assert hash(scaling) == hash(LongRoPEScaling(list(SHORT), list(LONG), 16))


class Own:
    """A user's own scaling."""

    needs_length = False
    attention_scale = 3.0

    def frequencies(self, dim, base, length):
        return torch.full((dim // 2,), 2.0, dtype=torch.float64)


def test_a_scaling_of_one_s_own():
    x = drawn(3, 5, 4)
    expected = rotated(x, np.outer(range(5), [2.0, 2.0]), "half") * 3
    assert_near(RotaryEmbedding(4, scaling=Own())(x), expected, 1e-12)


@pytest.mark.parametrize(
    ("message", "make"),
    [
        ("factor is a finite number from 1, got 0.5", lambda: LinearScaling(0.5)),
        ("factor is a finite number from 1, got nan", lambda: LinearScaling(math.nan)),
        ("alpha is a finite number from 1, got inf", lambda: NTKScaling(math.inf)),
        ("factor is a finite number from 1, got 0", lambda: DynamicNTKScaling(0, 16)),
        ("original_length is a finite number from 1, got 0", lambda: DynamicNTKScaling(2, 0)),
        ("factor is a finite number from 1, got 0.9", lambda: YaRNScaling(0.9, 16)),
        ("original_length is a finite number from 1, got 0", lambda: YaRNScaling(2, 0)),
        ("got 1 and 32; the paper takes 32 and 1", lambda: YaRNScaling(2, 16, 1, 32)),
        ("got 32 and 0; the paper takes 32 and 1", lambda: YaRNScaling(2, 16, 32, 0)),
        ("factor is a finite number from 1, got -8", lambda: Llama3Scaling(-8)),
        ("original_length is a finite number from 1, got 0", lambda: Llama3Scaling(original_length=0)),
        ("got 1 and 4; Llama: 4 and 1", lambda: Llama3Scaling(low=4, high=1)),
        ("got 4 and 0; Llama: 4 and 1", lambda: Llama3Scaling(low=0, high=4)),
        ("factor is a finite number from 1, got 0", lambda: LongRoPEScaling(SHORT, LONG, 16, 0)),
        ("original_length is a finite number from 2, got 1", lambda: LongRoPEScaling(SHORT, LONG, 1)),
        (r"short holds positive factors, got \(1.0, 0.0\)", lambda: LongRoPEScaling([1, 0], [1, 1], 16)),
        (r"long holds positive factors, got \(1.0, nan\)", lambda: LongRoPEScaling([1, 1], [1, math.nan], 16)),
        ("short .* each of 2 pairs .* got 4; give 2", lambda: RotaryEmbedding(4, scaling=LENGTH_DEPENDENT[1])),
        ("long .* 4 pairs .* got 1", lambda: RotaryEmbedding(8, scaling=LongRoPEScaling(SHORT, [1], 16))),
        ("4 rotated channels, got 2; use LinearScaling", lambda: RotaryEmbedding(2, scaling=NTKScaling(2))),
        ("4 rotated channels, got 2", lambda: RotaryEmbedding(2, scaling=DynamicNTKScaling(2, 16))),
    ],
)
def test_numbers_that_make_no_sense_are_refused(message, make):
    with pytest.raises(ValueError, match=message):
        make()
