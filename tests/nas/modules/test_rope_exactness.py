"""Rotary angles far from position 0, and after whatever may happen to a module, against 60-digit arithmetic."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from nas.modules import RotaryEmbedding
from tests.nas.modules.exact_rotations import LAYOUTS, angles, assert_near, drawn, rotated

BASES = (10_000.0, 500_000.0)
FAR = (131_072, 10_000_000)


def assert_right(rope, start=131_072, base=500_000.0, tokens=5):
    """A table in float32 is the exact one, to float32's precision."""
    cos, sin = rope.table(torch.zeros(tokens, rope.dim), start)
    expected = torch.from_numpy(angles(range(start, start + tokens), rope.dim, base))
    assert cos.dtype == sin.dtype == torch.float32
    assert_near(cos, expected.cos(), 3e-7)
    assert_near(sin, expected.sin(), 3e-7)


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("start", FAR)
def test_cos_and_sin_are_exact_to_float32_far_from_0(start, base):
    assert_right(RotaryEmbedding(64, base), start, base, 200)


@pytest.mark.parametrize("start", [0, *FAR, 1_000_000_000])
def test_in_float64_only_the_rounding_of_the_frequency_grows_with_the_position(start):
    cos, sin = RotaryEmbedding(64).table(torch.zeros(200, 64, dtype=torch.float64), start)
    expected = torch.from_numpy(angles(range(start, start + 200), 64))
    bound = 1e-15 + (start + 200) * 2.0**-52
    assert_near(cos, expected.cos(), bound)
    assert_near(sin, expected.sin(), bound)


def naive(x, start, base):
    """The usual formula in float32."""
    angle = torch.arange(start, start + 32).float()[:, None] / base ** (torch.arange(0, 64, 2).float() / 64)
    (a, b), cos, sin = x.float().chunk(2, -1), angle.cos(), angle.sin()
    return torch.cat((a * cos - b * sin, a * sin + b * cos), -1).bfloat16()


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("start", [0, *FAR])
def test_a_bfloat16_rotation_far_away_is_as_exact_as_at_0(start, base):
    x = drawn(4, 32, 64, dtype=torch.bfloat16)
    exact = rotated(x, angles(range(start, start + 32), 64, base), "half")
    bound = exact.abs() / 256 + 1.5e-6  # rounded once
    assert ((RotaryEmbedding(64, base).bfloat16()(x, start).double() - exact).abs() <= bound).all()
    # The usual formula is so exact at 0 alone.
    assert ((naive(x, start, base).double() - exact).abs() <= bound).all() == (start == 0)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.to(torch.bfloat16),
        lambda m: m.half(),
        lambda m: m.double(),
        lambda m: m.bfloat16().float(),
        lambda m: m.to_empty(device="cpu"),
        lambda m: m.to("meta").to_empty(device="cpu"),
        copy.deepcopy,
        lambda m: pickle.loads(pickle.dumps(m)),  # noqa: S301 (our own bytes)
    ],
)
@pytest.mark.parametrize("within", [False, True])
def test_the_table_is_exact_whatever_happened_to_the_module(change, within):
    rope = RotaryEmbedding(16, 500_000.0)
    assert_right(change(nn.Sequential(nn.Linear(2, 2), rope))[1] if within else change(rope))


def test_a_module_made_on_the_meta_device_is_right_once_it_has_memory():
    with torch.device("meta"):
        model = nn.Sequential(RotaryEmbedding(16, 500_000.0))
    assert model[0](torch.empty(2, 16, device="meta")).shape == (2, 16)
    assert_right(model.to_empty(device="cpu")[0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_default_dtype_does_not_matter(dtype):
    torch.set_default_dtype(dtype)
    try:
        rope = RotaryEmbedding(16, 500_000.0)
        cos, _ = rope.table(torch.zeros(1, 16, dtype=torch.float32), 131_072)
    finally:
        torch.set_default_dtype(torch.float32)
    assert cos.dtype == torch.float32
    assert_right(rope)


def test_there_is_nothing_to_train_or_to_save():
    rope = RotaryEmbedding(8)
    assert not rope.state_dict()
    assert not list(rope.parameters())
    rope.load_state_dict({}, strict=True)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_autocast_changes_nothing(layout, dtype):
    rope = RotaryEmbedding(8, layout=layout)
    x = drawn(2, 3, 5, 8, dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16):
        found = rope(x, 10_000_000)
    assert found.dtype == dtype
    assert torch.equal(found, rope(x, 10_000_000))


def test_compiled_code_has_no_break_and_is_exact():
    ropes = {layout: RotaryEmbedding(8, layout=layout) for layout in LAYOUTS}
    x, own = drawn(2, 3, 5, 8, dtype=torch.float32), torch.tensor([[10_000_000 + t, 131_072 - t] for t in range(5)]).T
    compiled = torch.compile(lambda x, own: {layout: rope(x, own) for layout, rope in ropes.items()}, fullgraph=True)
    for layout, found in compiled(x, own).items():
        for n in range(2):
            assert_near(found[n], rotated(x[n], angles(own[n], 8), layout), 2e-6)


def test_a_growing_offset_is_not_compiled_anew():
    counter = torch._dynamo.testing.CompileCounter()
    rope = RotaryEmbedding(8)
    compiled = torch.compile(lambda x, offset: rope(x, offset), backend=counter, fullgraph=True)
    x = drawn(1, 1, 1, 8)
    for offset in range(10, 16):
        assert torch.equal(compiled(x, offset), rope(x, offset))
    assert counter.frame_count <= 2
