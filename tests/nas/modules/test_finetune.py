"""Blending, unfreezing and ULMFiT's schedule, against what their papers' equations give."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torch._dynamo.testing import CompileCounter

from nas.modules import (
    Blend,
    BlendSchedule,
    GradualUnfreezing,
    discriminative_groups,
    finish,
    layer_groups,
    replace_activations,
    slanted_triangular,
)


def network():
    return nn.Sequential(
        nn.Linear(4, 8), nn.ReLU(inplace=True), nn.Linear(8, 8), nn.ReLU(inplace=True), nn.Linear(8, 3)
    )


def blended(steps=4, shape="linear"):
    model = network()
    replace_activations(model, nn.ReLU, lambda old: Blend(old, nn.PReLU(), steps, shape), verbose=False)
    return model


@pytest.mark.parametrize(
    ("shape", "t"), [("linear", lambda s: s / 4), ("cosine", lambda s: 0.5 - 0.5 * math.cos(math.pi * s / 4))]
)
def test_a_blend_goes_from_old_to_new(shape, t):
    blend = Blend(nn.ReLU(inplace=True), nn.Tanh(), 4, shape)
    x = torch.randn(50)
    given = x.clone()
    for step in (0, 1, 2, 3, 4, 4):
        expected = (1 - t(step)) * F.relu(x) + t(step) * torch.tanh(x)
        torch.testing.assert_close(blend(given), expected)
        blend.step()
    torch.testing.assert_close(given, x)  # whatever works in place got a copy
    torch.testing.assert_close(blend(x), torch.tanh(x), atol=0, rtol=0)


def test_both_ends_are_exact():
    blend = Blend(nn.GELU(), nn.SiLU(), 3, "cosine").to(torch.bfloat16)
    x = torch.randn(1000, dtype=torch.bfloat16)
    assert torch.equal(blend(x), F.gelu(x))
    for _ in range(3):
        blend.step()
    assert torch.equal(blend(x), F.silu(x))


def test_gradients_are_those_of_the_blend():
    blend = Blend(nn.PReLU(), nn.PReLU(init=0.5), 2).double()
    blend.step()
    assert torch.autograd.gradcheck(blend, torch.randn(7, dtype=torch.float64, requires_grad=True))
    blend(torch.tensor([-2.0], dtype=torch.float64)).backward()
    assert blend.old.weight.grad.item() == blend.new.weight.grad.item() == -1.0


def test_two_dtypes_under_autocast():
    blend = Blend(nn.Softplus(), nn.PReLU(), 2)
    blend.step()
    with torch.autocast("cpu", torch.bfloat16):
        assert blend(torch.randn(3, dtype=torch.bfloat16)).isfinite().all()


def test_evaluation_and_accumulated_gradients_are_no_steps():
    model = blended()
    for _ in range(5):
        model(torch.randn(2, 4)).sum().backward()
        model.eval()(torch.randn(2, 4))
    assert [blend.steps_made.item() for blend in BlendSchedule(model).blends] == [0, 0]


def test_a_checkpoint_goes_on_where_it_was():
    model, other = blended(), blended()
    schedule = BlendSchedule(model)
    schedule.step()
    schedule.step()
    other.load_state_dict(model.state_dict())
    x = torch.randn(5, 4)
    torch.testing.assert_close(other(x), model(x))
    torch.testing.assert_close(copy.deepcopy(model)(x), model(x))
    BlendSchedule(other).step()
    assert not torch.allclose(other(x), model(x))


def test_compiled_it_follows_the_steps():
    torch._dynamo.reset()
    model = blended()
    counter = CompileCounter()
    compiled = torch.compile(model, fullgraph=True, backend=counter)
    schedule = BlendSchedule(model)
    x = torch.randn(5, 4)
    for _ in range(3):
        torch.testing.assert_close(compiled(x), model(x))
        schedule.step()
    assert counter.frame_count == 1


def test_finished_nothing_of_the_blend_is_left():
    model = blended(steps=2)
    with pytest.raises(ValueError, match=r"the blend 1 has made 0 of 2 steps"):
        finish(model)
    schedule = BlendSchedule(model)
    schedule.step()
    assert not schedule.done
    schedule.step()
    assert schedule.done
    x = torch.randn(5, 4)
    expected = model(x)
    assert finish(model) is model
    torch.testing.assert_close(model(x), expected, atol=0, rtol=0)
    by_hand = network()
    by_hand[1], by_hand[3] = nn.PReLU(), nn.PReLU()
    by_hand.load_state_dict(model.state_dict())
    with pytest.raises(ValueError, match="has no Blend"):
        BlendSchedule(model)


def test_a_blend_may_be_cut_off_or_be_the_model_or_hold_another():
    assert isinstance(finish(blended(), early=True)[1], nn.PReLU)
    new = nn.SiLU()
    assert finish(Blend(nn.ReLU(), new, 3), early=True) is new
    assert finish(Blend(nn.ReLU(), Blend(nn.ReLU(), new, 3), 3), early=True) is new


@pytest.mark.parametrize(("steps", "shape", "words"), [(0, "linear", "at least 1 step"), (3, "square", "'square'")])
def test_blends_that_are_refused(steps, shape, words):
    with pytest.raises(ValueError, match=words):
        Blend(nn.ReLU(), nn.SiLU(), steps, shape)


def test_layers_of_models():
    resnet = torchvision.models.resnet18()
    groups = layer_groups(resnet)
    assert len(groups) == 2 + 8 + 1  # stem, its norm, blocks, head
    assert groups[0] == [resnet.conv1.weight]
    assert groups[-1] == [*resnet.fc.parameters()]
    assert sum(map(len, groups)) == len([*resnet.parameters()])


def test_layers_of_a_language_model_with_tied_ends():
    from transformers import GPT2Config, GPT2LMHeadModel

    ends = {"bos_token_id": 0, "eos_token_id": 0}
    model = GPT2LMHeadModel(GPT2Config(vocab_size=20, n_embd=8, n_head=2, n_layer=3, **ends))
    groups = layer_groups(model)
    assert len(groups) == 2 + 3 + 1  # embeddings, blocks, the last norm; the head is the first embedding
    assert groups[2] == [*model.transformer.h[0].parameters()]


def test_a_model_without_parameters_has_no_layers():
    with pytest.raises(ValueError, match="no parameters"):
        layer_groups(nn.ReLU())


def test_layers_thaw_from_the_last_one():
    model = network()
    model[0].bias.requires_grad_(False)  # a user's choice, which stays
    groups = layer_groups(model)
    unfreezing = GradualUnfreezing(groups, every=2, always=[model[0].weight])
    seen = []
    for _ in range(6):
        seen.append([p.requires_grad for p in model.parameters()])
        unfreezing.step()
    head, middle, everything = [True, False, False, False, True, True], [True, False, *[True] * 4], [True, False]
    assert seen == [head, head, middle, middle, everything + [True] * 4, everything + [True] * 4]
    other = GradualUnfreezing(groups, every=2)
    other.load_state_dict(unfreezing.state_dict())
    assert other.trainable_groups == 3


def test_frozen_layers_stay_what_they_were_under_an_optimiser_with_momentum():
    model = network()
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(torch.randn(3, 4)).sum().backward()  # gradients and a decay that would go on
    optimiser.step()
    before = copy.deepcopy(model.state_dict())
    GradualUnfreezing(layer_groups(model), every=10)
    model(torch.randn(3, 4)).sum().backward()
    optimiser.step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"4.weight", "4.bias"}


@pytest.mark.parametrize(("groups", "every"), [([], 1), ([[]], 0)])
def test_unfreezing_that_is_refused(groups, every):
    with pytest.raises(ValueError, match="at least 1"):
        GradualUnfreezing(groups, every)


def test_earlier_layers_learn_more_slowly():
    groups = discriminative_groups(layer_groups(network()), 0.26)
    assert [group["lr"] for group in groups] == pytest.approx([0.26 / 2.6**2, 0.1, 0.26])
    torch.optim.SGD(groups, lr=1.0)


def test_the_slanted_triangle_is_equation_3():
    steps, cut_fraction, ratio = 200, 0.1, 32
    factor = slanted_triangular(steps, cut_fraction=cut_fraction, ratio=ratio)
    cut = math.floor(steps * cut_fraction)
    for t in range(steps + 1):
        p = t / cut if t < cut else 1 - (t - cut) / (cut * (1 / cut_fraction - 1))
        assert factor(t) == pytest.approx((1 + p * (ratio - 1)) / ratio)
    assert (factor(0), factor(cut), factor(steps)) == (1 / ratio, 1, 1 / ratio)
    assert slanted_triangular(3)(3) == pytest.approx(1 / 32)  # a tenth of three steps is none


@pytest.mark.parametrize("options", [{"steps": 1}, {"steps": 9, "cut_fraction": 1}, {"steps": 9, "ratio": 0.5}])
def test_schedules_that_are_refused(options):
    with pytest.raises(ValueError, match="steps are at least 2"):
        slanted_triangular(**options)
