"""The training loop and the running of one trial."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import nn

from trainers.data import hold_out
from trainers.loop import Batches, Diverged, OutOfTime, fit, make_optimizer, triangle, validate
from trainers.run import build_model, run_trial
from trainers.trial import Component, Recipe, Trial, TrialResult, TrialState

CPU = torch.device("cpu")


def images(n: int = 64, **augmentation):
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (n, 3, 8, 8), generator=generator, dtype=torch.uint8)
    return hold_out(x, torch.arange(n) % 4, 0.25, **augmentation)


def trial(**changes) -> Trial:
    base = Trial(
        id=1,
        stage="search",
        expression="x * sigmoid(x)",
        seed=3,
        model=Component("resnet8", {"width": 4}),
        data=Component("digits"),
        recipe=Recipe(batch_size=128, learning_rate=0.1),
        budget_epochs=2,
    )
    return dataclasses.replace(base, **changes)


def go_on(result: TrialResult) -> bool:
    return False


def test_triangle_rises_and_falls_linearly():
    values = [triangle(step, 100, 0.2) for step in range(100)]
    assert values.index(max(values)) in (19, 20)
    assert max(values) == pytest.approx(1.0)
    assert values[9] == pytest.approx(0.5)
    assert values[60] == pytest.approx(0.5)
    assert values[99] == pytest.approx(1 / 80)
    assert triangle(0, 10, 0.0) == 1.0


def test_augmentation_is_a_crop_and_a_flip_of_each_image():
    """Against an image-by-image reference that tries every shift and both directions."""
    data = images(crop_padding=2, flip=True)
    batches = Batches(data, 16, CPU, torch.Generator().manual_seed(1))
    x = data.train_x[:16]
    padded = nn.functional.pad(x, (2, 2, 2, 2))
    seen = set()
    for before, after in zip(padded, batches.augment(x), strict=True):
        found = [
            (i, j, mirrored)
            for i in range(5)
            for j in range(5)
            for mirrored in (False, True)
            if torch.equal(
                after, before[:, i : i + 8, j : j + 8].flip(2) if mirrored else before[:, i : i + 8, j : j + 8]
            )
        ]
        assert len(found) == 1
        seen.add(found[0])
    assert len(seen) > 8
    assert {mirrored for _, _, mirrored in seen} == {False, True}


def test_batches_normalise_and_cover_the_epoch():
    data = images()
    batches = Batches(data, 16, CPU, torch.Generator().manual_seed(1))
    x = torch.cat([x for x, _ in batches])
    assert x.shape == (48, 3, 8, 8)
    torch.testing.assert_close(x.mean((0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(x.std((0, 2, 3)), torch.ones(3), atol=1e-4, rtol=0)
    assert batches.validation().__next__()[0].shape == (16, 3, 8, 8)


def test_weight_decay_spares_everything_with_fewer_than_two_dimensions():
    model = build_model(trial(expression="x * sigmoid(beta * x)"), images())
    decayed, spared = make_optimizer(model, Recipe()).param_groups
    assert decayed["weight_decay"] == 5e-4
    assert spared["weight_decay"] == 0
    assert all(p.dim() >= 2 for p in decayed["params"])
    names = {id(p): n for n, p in model.named_parameters()}
    assert {names[id(p)].rsplit(".", 1)[-1] for p in spared["params"]} == {"beta", "bias", "weight"}


def test_validation_metrics_are_those_of_the_definition():
    data = images()
    batches = Batches(data, 16, CPU, torch.Generator())
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    loss, accuracy = validate(model, batches)
    x = (
        (data.val_x / 255 - torch.tensor(data.mean).view(1, 3, 1, 1)) / torch.tensor(data.std).view(1, 3, 1, 1)
    ).flatten(1)
    logits = model[1](x).double()
    by_hand = -(logits[torch.arange(16), data.val_y] - logits.logsumexp(1)).mean()
    assert loss == pytest.approx(by_hand.item(), rel=1e-5)
    assert accuracy == (logits.argmax(1) == data.val_y).double().mean().item()


def test_reported_metrics_and_step_budget():
    reports = []
    data = images()
    kwargs = {"seed": 0, "device": CPU, "report": reports.append}
    fit(build_model(trial(), data), data, Recipe(batch_size=16), budget_epochs=5, max_steps=7, **kwargs)
    assert [r["epoch"] for r in reports] == [1, 2, 3]  # 3 + 3 + 1 steps
    assert reports[-1]["train_loss_sum"] == pytest.approx(sum(r["train_loss"] for r in reports))


def test_divergence_and_time_are_noticed():
    data = images()
    kwargs = {"budget_epochs": 2, "seed": 0, "device": CPU, "report": lambda _: None}
    with pytest.raises(Diverged, match="epoch 1"):
        fit(build_model(trial(expression="exp(exp(x))"), data), data, Recipe(batch_size=16), **kwargs)
    with pytest.raises(OutOfTime):
        fit(build_model(trial(), data), data, Recipe(batch_size=16), max_seconds=0.0, **kwargs)


def test_trials_and_results_survive_json():
    one = trial(report_epochs=(1, 2), max_seconds=3.5)
    assert Trial.from_json(one.to_json()) == one
    result = run_trial(trial(budget_epochs=1), go_on)
    assert TrialResult.from_json(result.to_json()) == result


def test_a_trial_is_repeatable_and_its_seed_matters():
    first, again, other = (run_trial(t, go_on) for t in (trial(), trial(), trial(seed=4)))
    assert first.state == TrialState.COMPLETE
    assert first.metrics == again.metrics
    assert first.metrics != other.metrics
    assert {"python", "torch", "device", "processor"} <= first.environment.keys()
    assert [m["epoch"] for m in first.history] == [1, 2]


def test_networks_of_the_same_seed_differ_in_their_activation_only():
    """So that comparisons over matched seeds are paired."""
    data = images()
    torch.manual_seed(5)
    one = build_model(trial(expression="x * sigmoid(x)"), data).state_dict()
    torch.manual_seed(5)
    two = build_model(trial(expression="x * sigmoid(beta * x)"), data).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert all(name.endswith("beta") for name in two.keys() - one.keys())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"expression": "exp(exp(x))"}, "diverged"),
        ({"expression": "sqrt(x)"}, "diverged"),
        ({"expression": "nonsense("}, "ParseError"),
        ({"max_seconds": 0.0}, "out of time"),
        ({"model": Component("resnet9")}, "KeyError"),
        ({"data": Component("cifar10", {"root": "nowhere"})}, "DataError"),
        ({"device": "no such device"}, "RuntimeError"),
    ],
)
def test_whatever_happens_is_a_result(changes, reason):
    result = run_trial(trial(**changes), go_on)
    assert result.state == TrialState.FAIL
    assert reason in result.reason
    assert not any(math.isnan(v) for v in result.metrics.values())


def test_a_report_can_stop_a_trial():
    seen = []

    def stop_at_two(result: TrialResult) -> bool:
        seen.append(result)
        return result.metrics["epoch"] == 2

    result = run_trial(trial(budget_epochs=5, report_epochs=(1, 2, 4)), stop_at_two)
    assert result.state == TrialState.PRUNED
    assert [r.metrics["epoch"] for r in seen] == [1, 2]
    assert all(r.state == TrialState.RUNNING for r in seen)
    assert len(result.history) == 2
