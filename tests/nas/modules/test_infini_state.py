"""What Infini-attention keeps of a text: streaming, causality, the rules of its memory, its cost in time and bytes."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nas.modules.infini_attention import InfiniAttention
from nas.modules.rope import RotaryEmbedding
from nas.modules.rope_scaling import DynamicNTKScaling
from tests.nas.modules import references

UPDATES = ("linear", "delta")


def make(segment=3, rope=True, **options):
    """A float64 module on 8 channels with grouped queries, whose gates differ from head to head."""
    torch.manual_seed(0)
    rotation = RotaryEmbedding(4) if rope is True else rope or None
    module = InfiniAttention(8, 4, segment, kv_heads=2, head_dim=4, rope=rotation, **options).double()
    module.gate.data = torch.linspace(-1, 1, 4).double()
    return module


def text(tokens, batch=1):
    return torch.randn(batch, tokens, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 2


def in_pieces(module, x, cuts):
    """Outputs of a text that is read piece by piece, side by side, and the last state."""
    outs, state = [], None
    for piece in x.tensor_split(sorted(cuts), 1):
        y, state = module.stream(piece, state)
        outs.append(y)
    return torch.cat(outs, 1), state


def leaves(state):
    return [state.k, state.v, *(state.memory or ())]


def influence(function, x):
    """(T, T): how strongly the output at each token depends on each token."""
    mix = torch.randn(8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    jacobian = torch.autograd.functional.jacobian(lambda x: function(x)[0] @ mix, x)
    return jacobian.abs().sum((1, 3))


@pytest.mark.parametrize("rope", [True, None], ids=["rope", "no rope"])
@pytest.mark.parametrize("update", UPDATES)
@given(cuts=st.sets(st.integers(1, 10)))
@example(cuts=set(range(1, 11)))
@settings(max_examples=30)
def test_a_streamed_text_gives_the_same_as_the_whole(update, rope, cuts):
    module, x = make(update=update, rope=rope), text(11, batch=2)
    whole, last = module.stream(x, None)
    pieces, state = in_pieces(module, x, cuts)
    torch.testing.assert_close(pieces, whole, rtol=1e-11, atol=1e-13)
    for kept, expected in zip(leaves(state), leaves(last), strict=True):
        torch.testing.assert_close(kept, expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("cut", [1, 4, 6, 10])
def test_a_streamed_text_has_the_gradients_of_the_whole(cut):
    module, x = make(), text(11).requires_grad_()
    wanted = [x, *module.parameters()]
    for found, expected in zip(
        torch.autograd.grad(in_pieces(module, x, [cut])[0].square().sum(), wanted),
        torch.autograd.grad(module(x).square().sum(), wanted),
        strict=True,
    ):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


def test_rotations_that_depend_on_the_length_stream_too():
    module, x = make(6, RotaryEmbedding(4, scaling=DynamicNTKScaling(4.0, 2))), text(11)
    torch.testing.assert_close(in_pieces(module, x, range(1, 11))[0], module(x))


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("cut", [2, 3, 7])
def test_a_state_can_be_continued_from_twice(cut, update):
    module, x = make(update=update), text(11)
    _, state = module.stream(x[:, :cut], None)
    before = copy.deepcopy([leaf.detach() for leaf in leaves(state)])
    first, second = (module.stream(x[:, cut:], state)[0] for _ in range(2))
    assert torch.equal(first, second)
    for leaf, kept in zip(leaves(state), before, strict=True):
        assert torch.equal(leaf, kept)


@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize("update", UPDATES)
def test_each_token_depends_on_all_earlier_ones_and_on_no_later_one(update, checkpoint):
    strength = influence(make(update=update, checkpoint_segments=checkpoint), text(11))
    assert torch.equal(strength > 1e-9, torch.ones(11, 11).tril().bool())
    assert (strength.triu(1) == 0).all()


def test_the_texts_of_a_batch_do_not_see_each_other():
    module, x = make(), text(8, batch=3)
    torch.testing.assert_close(module(x), torch.cat([module(one[None]) for one in x]))


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("number", [0, 1])
def test_the_order_within_an_earlier_segment_does_not_matter(number, update):
    module, x = make(4, update=update), text(15)
    order = torch.arange(15)
    order[number * 4 : number * 4 + 4] = order[number * 4 : number * 4 + 4][[2, 0, 3, 1]]
    later = number * 4 + 4
    torch.testing.assert_close(module(x[:, order])[:, later:], module(x)[:, later:])
    assert (module(x[:, order])[:, :later] - module(x)[:, :later]).abs().max() > 1e-3


@pytest.mark.parametrize("segment", [1, 2, 3, 4, 6])
def test_a_linear_memory_does_not_depend_on_the_segment_and_a_delta_memory_does(segment):
    x = text(12)
    for update in UPDATES:
        whole, parts = (make(s, update=update).stream(x, None)[1].memory for s in (12, segment))
        torch.testing.assert_close(parts.z, whole.z)
        if update == "linear":
            torch.testing.assert_close(parts.m, whole.m)
        else:
            assert (parts.m - whole.m).abs().max() > 1e-2


def test_a_delta_memory_takes_a_pair_in_once_but_counts_it_twice():
    module, x = make(1), text(1).expand(1, 4, 8)
    once, *more = (module.stream(x[:, :t], None)[1].memory for t in range(1, 5))
    # M/z gives v after the first time, so the second adds nothing. Then z has doubled, M/z is v/2, and v/2 is added.
    for memory, m, z in zip(more, (1, 1.5, 2), (2, 3, 4), strict=True):
        torch.testing.assert_close(memory.m, m * once.m)
        torch.testing.assert_close(memory.z, z * once.z)


@pytest.mark.parametrize("update", UPDATES)
def test_part_of_a_segment_is_not_committed(update):
    module, x = make(4, update=update), text(9)
    states = [module.stream(x[:, :t], None)[1] for t in range(1, 10)]
    assert all(state.memory is None for state in states[:3])
    for state in states[4:7]:
        assert all(torch.equal(a, b) for a, b in zip(state.memory, states[3].memory, strict=True))
    assert not torch.equal(states[7].memory.m, states[3].memory.m)
    assert [state.k.shape[2] for state in states] == [1, 2, 3, 0, 1, 2, 3, 0, 1]


def test_a_state_holds_nothing_of_the_text_but_its_memory_and_its_begun_segment():
    with torch.no_grad():
        _, state = make(4).stream(text(401), None)
    assert sum(leaf.untyped_storage().nbytes() for leaf in leaves(state)) == 8 * 2 * (4 * 5 + 4 + 4)


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 2)])
def test_a_memory_has_size_times_value_plus_one_numbers_a_head(heads, kv_heads):
    module = InfiniAttention(8, heads, 2, kv_heads=kv_heads, head_dim=6)
    _, state = module.stream(torch.randn(1, 8, 8), None)
    assert sum(part.numel() for part in state.memory) == 6 * (6 + 1) * kv_heads


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_the_memory_is_float32_or_float64_whatever_the_module_is(dtype):
    y, state = make().to(dtype).stream(text(7).to(dtype), None)
    assert y.dtype == state.k.dtype == dtype
    assert {part.dtype for part in state.memory} == {torch.promote_types(dtype, torch.float32)}


@pytest.mark.parametrize("autocast", [False, True])
def test_in_bfloat16_the_memory_counts_beyond_256(autocast):
    module = make(rope=None, update="linear").to(torch.float32 if autocast else torch.bfloat16)
    x = torch.zeros(1, 600, 8, dtype=module.gate.dtype)  # keys 0, features 1; bfloat16 has no number 257
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        y, state = module.stream(x, None)
    assert y.dtype == state.k.dtype == torch.bfloat16
    assert state.memory.m.dtype == state.memory.z.dtype == torch.float32
    assert (state.memory.z == 600).all()


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("update", UPDATES)
def test_in_bfloat16_features_and_memory_are_float32(update, autocast):
    module = make(rope=None, update=update, feature=references.RecordingFeature)
    module, projections = module.to(torch.float32 if autocast else torch.bfloat16), []
    module.heads.qkv.register_forward_hook(lambda *args: projections.append(args[-1]))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        _, state = module.stream(text(12).to(module.gate.dtype), None)
    assert module.feature.dtypes == {torch.float32}
    assert projections[0].dtype == torch.bfloat16
    q, k, v = projections[0][0].double().unflatten(-1, (-1, 4)).transpose(0, 1).split((4, 2, 2))
    options = {"segment": 3, "update": update, "feature": references.elu_plus_one, "layout": None}
    for g in range(2):
        _, m, z = references.infini_head(q[2 * g], k[g], v[g], 0.5, **options)
        torch.testing.assert_close(state.memory.m[0, g].double(), m, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(state.memory.z[0, g].double(), z, rtol=1e-5, atol=0)


@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("every", [None, 1, 2, 3, 5, 6])
def test_gradients_are_cut_after_every_so_many_segments_and_nowhere_else(every, update, checkpoint):
    module = make(2, update=update, detach_every=every, checkpoint_segments=checkpoint)
    token = torch.arange(11)
    group = token // 2 // (every or 100)
    expected = (token[:, None] >= token) & (group[:, None] == group)
    assert torch.equal(influence(module, text(11)) != 0, expected)


def test_segments_are_counted_from_the_beginning_of_a_call():
    module, token = make(2, detach_every=2), torch.arange(12)
    group = torch.bucketize(token // 2, torch.tensor([2, 5]), right=True)  # calls of segments 0 1 | 2 and 3 4 | 5
    expected = (token[:, None] >= token) & (group[:, None] == group)
    assert torch.equal(influence(lambda x: in_pieces(module, x, [6])[0], text(12)) != 0, expected)


def measured(module, tokens):
    """Bytes that wait for the backward pass, and elements made forward and backward."""
    x = text(tokens).requires_grad_()
    with references.Measure() as measure:
        y = module(x).sum()
        held = measure.held()
        y.backward()
    return held, measure.made


@pytest.mark.parametrize("checkpoint", [False, True])
def test_bytes_and_work_grow_linearly_in_the_text(checkpoint):
    module = make(4, checkpoint_segments=checkpoint)
    measured(module, 8)
    counts = [measured(module, tokens) for tokens in (64, 128, 256)]
    for name, (small, middle, large) in zip(("bytes", "work"), zip(*counts, strict=True), strict=True):
        assert 1.9 < middle / small < 2.1, name
        assert 1.9 < large / middle < 2.1, name


def saved_bytes(module, x):
    """Bytes of different storages that autograd saves."""
    storages = {}

    def keep(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        module(x)
    return sum(storage.nbytes() for storage in storages.values())


@pytest.mark.parametrize("update", UPDATES)
def test_checkpointed_segments_hold_less_and_give_the_same(update):
    kept, again = (make(16, update=update, checkpoint_segments=flag) for flag in (False, True))
    x = text(96).requires_grad_()
    found, expected = again(x), kept(x)
    assert torch.equal(found, expected)
    wanted = [[x, *module.parameters()] for module in (again, kept)]
    gradients = [torch.autograd.grad(y.square().sum(), w) for y, w in zip((found, expected), wanted, strict=True)]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)
    assert measured(again, 96)[0] < 0.5 * measured(kept, 96)[0]
    assert saved_bytes(again, x) < 0.5 * saved_bytes(kept, x)


@pytest.mark.parametrize("other", ["batch", "dtype", "heads", "size"])
def test_a_state_of_something_else_is_named(other):
    x = text(4, batch=2)
    _, state = make().stream(x, None)
    if other == "batch":
        module, x = make(), x[:1]
    elif other == "dtype":
        module, x = make().float(), x.float()
    else:
        module = InfiniAttention(8, 4, 3, **({"kv_heads": 4, "head_dim": 4} if other == "heads" else {})).double()
    with pytest.raises(ValueError, match=r"state has .* \(2, 2, 1, 4\), torch.float64.*begin a new text with None"):
        module.stream(x, state)


def test_a_begun_segment_that_is_longer_than_a_segment_is_named():
    _, state = make(8).stream(text(6), None)
    with pytest.raises(ValueError, match="segment"):
        make(4).stream(text(3), state)
