"""Training and testing one variant of a comparison."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from nas.modules import LinearScaling, RotaryEmbedding
from search_spaces.parser import parse
from trainers.activation import make_act
from trainers.comparison import SCALINGS, Variant, rescale, run_variant, train
from trainers.models import models
from trainers.tasks import tasks
from trainers.trial import Component, Recipe

VARIANT = Variant(
    task=Component("passkey", {"length": 12, "gap": 1, "digits": 1, "noise": 1}),
    model=Component("gpt", {"dim": 32, "depth": 2, "heads": 2}),
    expression="x * sigmoid(x)",
    recipe=Recipe(batch_size=64, learning_rate=3e-3, weight_decay=0.1, clip_norm=1.0),
    steps=200,
    seed=0,
    lengths=(12, 24),
    tests=64,
)


def test_a_model_learns_a_short_passkey_and_a_seed_repeats():
    variant = replace(VARIANT, scalings=("linear",))
    first, again = run_variant(variant), run_variant(variant)
    assert first.reason is None
    assert first.scores[""][12] > 0.9  # by chance 0.1
    assert first.scores["linear"][12] == first.scores[""][12]  # nothing to scale at the length of training
    assert first.scores == again.scores
    assert first.parameters == sum(
        p.numel() for p in models.get("gpt")(torch.nn.SiLU, (12,), 13, **VARIANT.model.options).parameters()
    )


def test_the_score_is_none_where_learned_positions_end():
    model = Component("gpt", VARIANT.model.options | {"positions": "learned"})
    outcome = run_variant(replace(VARIANT, model=model, steps=2))
    assert outcome.scores[""][12] is not None
    assert outcome.scores[""][24] is None


def test_a_training_that_diverges_says_so():
    recipe = replace(VARIANT.recipe, learning_rate=1e30, clip_norm=None)
    outcome = run_variant(replace(VARIANT, recipe=recipe, steps=60))
    assert outcome.reason is not None
    assert outcome.reason.startswith("diverged: loss ")
    assert outcome.scores == {}


def test_a_learnable_parameter_of_the_activation_is_trained():
    task = tasks.get("passkey")(**VARIANT.task.options)
    model = models.get("gpt")(
        make_act(parse("x * sigmoid(beta * x)"), "channel", "fp32"), (12,), 13, **VARIANT.model.options
    )
    model(torch.zeros(1, 1, dtype=torch.long))
    betas = [p for name, p in model.named_parameters() if name.endswith("beta")]
    before = [p.detach().clone() for p in betas]
    assert math.isfinite(train(model, task, replace(VARIANT, steps=3)))
    assert betas
    assert all((p - b).abs().max() > 0 for p, b in zip(betas, before, strict=True))


@pytest.mark.parametrize("scaling", SCALINGS)
def test_scaling_changes_how_a_longer_text_is_read_but_no_weight(scaling):
    model = models.get("gpt")(torch.nn.SiLU, (8,), 16, dim=32, depth=1, heads=2).double()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    weights = {name: p.clone() for name, p in model.state_dict().items()}
    tokens = torch.arange(16)[None]
    before = model(tokens)
    rescale(model, scaling, 8, 8)
    torch.testing.assert_close(model(tokens[:, :8]), before[:, :8])
    rescale(model, scaling, 8, 16)
    assert not torch.allclose(model(tokens), before)
    assert all(torch.equal(p, weights[name]) for name, p in model.state_dict().items())


def test_linear_scaling_reads_as_many_times_further_as_the_text_is_longer():
    model = models.get("gpt")(torch.nn.SiLU, (8,), 16, dim=32, depth=1, heads=2, base=500.0)
    rescale(model, "linear", 8, 20)
    rope = model.blocks[0].mixer.rope
    x = torch.randn(1, 1, 20, 16)
    torch.testing.assert_close(rope(x), RotaryEmbedding(16, 500.0, scaling=LinearScaling(2.5))(x))
