"""The training loop and the running of one trial."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch
from torch import nn

from tests.trainings import images, trial
from trainers.batches import make_batches
from trainers.data import split_text
from trainers.loop import Diverged, OutOfTime, factor, fit, schedule, validate
from trainers.network import Network, build_model, make_optimizer
from trainers.run import run_trial
from trainers.trial import Component, Recipe, Trial, TrialResult, TrialState

CPU = torch.device("cpu")


def go_on(result: TrialResult) -> bool:
    return False


def network(data, **changes) -> Network:
    return Network(trial(**changes), data, CPU, 0)


def fitted(data, **changes) -> list[dict[str, float]]:
    """The reports of a training."""
    reports: list[dict[str, float]] = []
    one = trial(**changes)
    batches = make_batches(data, one.recipe.batch_size, CPU)
    fit(network(data, **changes), batches, one, reports.append)
    return reports


def test_triangle_rises_and_falls_linearly():
    values = [factor(Recipe(warmup=0.2), step, 100) for step in range(100)]
    assert values.index(max(values)) in (19, 20)
    assert max(values) == pytest.approx(1.0)
    assert values[9] == pytest.approx(0.5)
    assert values[60] == pytest.approx(0.5)
    assert values[99] == pytest.approx(1 / 80)
    assert factor(Recipe(warmup=0.0), 0, 10) == 1.0


def test_cosine_is_half_a_cosine_after_the_warm_up():
    recipe = Recipe(schedule="cosine", warmup=0.1)
    values = [factor(recipe, step, 100) for step in range(100)]
    assert values[4] == pytest.approx(0.5, abs=0.01)
    assert values[55] == pytest.approx(0.5)
    for step in range(10, 100):
        assert values[step] == pytest.approx((1 + math.cos(math.pi * (step - 10) / 90)) / 2)


def test_steps_divide_the_rate_at_the_milestones():
    """He et al. 2015: divided by 10 at 32k and 48k of 64k steps."""
    recipe = Recipe(schedule="step", warmup=0.0, milestones=(0.5, 0.75), gamma=0.1)
    values = [factor(recipe, step, 64) for step in (0, 31, 32, 47, 48, 63)]
    assert values == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_the_schedule_starts_again_after_every_rung():
    whole = schedule(trial(budget_epochs=10, anneal_epochs=(2, 5)), 4)
    parts = [schedule(trial(budget_epochs=n), 4) for n in (2, 3, 5)]
    assert whole == [*parts[0], *parts[1], *parts[2]]


def test_no_stretch_of_the_schedule_is_shorter_than_an_epoch():
    """A rest of two steps would begin at the peak."""
    cut = schedule(trial(budget_epochs=10, anneal_epochs=(2, 5), max_steps=10), 4)
    assert cut == schedule(trial(budget_epochs=10, max_steps=10), 4)
    assert len(cut) == 10
    kept = schedule(trial(budget_epochs=10, anneal_epochs=(2, 5), max_steps=12), 4)
    assert kept == [*schedule(trial(budget_epochs=2), 4), *schedule(trial(budget_epochs=1), 4)]


def test_weight_decay_spares_everything_with_fewer_than_two_dimensions():
    model = build_model(trial(expression="x * sigmoid(beta * x)"), images())
    decayed, spared = make_optimizer(model, Recipe(), 0.1).param_groups
    assert decayed["weight_decay"] == 5e-4
    assert spared["weight_decay"] == 0
    assert all(p.dim() >= 2 for p in decayed["params"])
    names = {id(p): n for n, p in model.named_parameters()}
    assert {names[id(p)].rsplit(".", 1)[-1] for p in spared["params"]} == {"beta", "bias", "weight"}


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_step_is_the_textbooks(optimizer):
    """The second step of one weight, against the update rules written out (Sutskever et al. 2013; arXiv 1711.05101)."""
    data = images()
    recipe = Recipe(batch_size=16, optimizer=optimizer, weight_decay=0.1, momentum=0.8, beta2=0.9)
    one = network(data, recipe=recipe)
    batch = next(iter(make_batches(data, 16, CPU).epoch(torch.Generator().manual_seed(0))))
    weight = one.model.head.weight
    values, gradients = [weight.detach().double().clone()], []
    for _ in range(2):
        one.step(batch, 0.05)
        gradients.append(weight.grad.double().clone())
        values.append(weight.detach().double().clone())
    if optimizer == "sgd":
        full = [g + 0.1 * v for g, v in zip(gradients, values, strict=False)]
        velocity = 0.8 * full[0] + full[1]
        expected = values[1] - 0.05 * (full[1] + 0.8 * velocity)
    else:
        m = (0.8 * 0.2 * gradients[0] + 0.2 * gradients[1]) / (1 - 0.8**2)
        v = (0.9 * 0.1 * gradients[0] ** 2 + 0.1 * gradients[1] ** 2) / (1 - 0.9**2)
        expected = values[1] * (1 - 0.05 * 0.1) - 0.05 * m / (v.sqrt() + 1e-8)
    torch.testing.assert_close(values[2], expected, rtol=1e-5, atol=1e-7)


def test_gradients_are_clipped():
    data = images()
    one = network(data, recipe=Recipe(batch_size=16, clip_norm=1e-3))
    batch = next(iter(make_batches(data, 16, CPU).epoch(torch.Generator().manual_seed(0))))
    one.step(batch, 0.1)
    norm = sum(p.grad.double().square().sum() for p in one.model.parameters()) ** 0.5
    assert norm.item() == pytest.approx(1e-3, rel=1e-3)


def test_validation_metrics_are_those_of_the_definition():
    data = images()
    one = network(data)
    one.model = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    metrics = validate(one, make_batches(data, 16, CPU))
    x = (
        (data.val_x / 255 - torch.tensor(data.mean).view(1, 3, 1, 1)) / torch.tensor(data.std).view(1, 3, 1, 1)
    ).flatten(1)
    logits = one.model[1](x).double()
    by_hand = -(logits[torch.arange(16), data.val_y] - logits.logsumexp(1)).mean()
    assert metrics["val_loss"] == pytest.approx(by_hand.item(), rel=1e-5)
    assert metrics["val_accuracy"] == (logits.argmax(1) == data.val_y).double().mean().item()
    assert "val_bpb" not in metrics


def test_bits_per_byte_of_text():
    """A model that gives every byte the same probability needs 8 bits for each."""

    class Uniform(nn.Module):
        def forward(self, x):
            return torch.zeros(*x.shape, 256)

    data = split_text(bytes(range(256)) * 8, 0.5, 32, "a text")
    one = network(images())
    one.model = Uniform()
    metrics = validate(one, make_batches(data, 4, CPU))
    assert metrics["val_bpb"] == pytest.approx(8, rel=1e-6)
    assert metrics["val_loss"] == pytest.approx(math.log(256), rel=1e-6)


def test_reported_metrics_and_step_budget():
    reports = fitted(images(), recipe=Recipe(batch_size=16), budget_epochs=5, max_steps=7)
    assert [r["epoch"] for r in reports] == [1, 2, 3]  # 3 + 3 + 1 steps
    assert reports[-1]["train_loss_sum"] == pytest.approx(sum(r["train_loss"] for r in reports))


def test_divergence_and_time_are_noticed():
    data = images()
    with pytest.raises(Diverged, match="epoch 1"):
        fitted(data, expression="exp(exp(x))", recipe=Recipe(batch_size=16))
    with pytest.raises(OutOfTime):
        fitted(data, max_seconds=0.0)


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
    assert {"python", "torch", "code", "device", "processor", "precision", "activation"} == first.environment.keys()
    assert [m["epoch"] for m in first.history] == [1, 2]


def test_networks_of_the_same_seed_differ_in_their_activation_only():
    """So that comparisons over matched seeds are paired."""
    data = images()
    one = build_model(trial(expression="x * sigmoid(x)"), data).state_dict()
    two = build_model(trial(expression="x * sigmoid(beta * x)"), data).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert all(name.endswith("beta") for name in two.keys() - one.keys())


TINY_GPT = {"dim": 16, "depth": 1, "heads": 2}
ON_TEXT = {
    "data": Component("pydoc", {"context": 32}),
    "recipe": Recipe(batch_size=16, optimizer="adamw", learning_rate=0.01, schedule="cosine", clip_norm=1.0),
    "budget_epochs": 1,
    "max_steps": 60,
}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("expression", "ffn"), [("x * sigmoid(beta * x)", "plain"), ("tanh(x)", "gated"), ("x1 * sigmoid(x2)", "binary")]
)
def test_a_transformer_learns_text(expression, ffn, precision):
    """Guessing at random costs 8 bits a byte, the frequencies of English letters some 4.5."""
    model = Component("gpt", {**TINY_GPT, "ffn": ffn})
    result = run_trial(trial(expression=expression, model=model, precision=precision, screen=True, **ON_TEXT), go_on)
    assert result.state == TrialState.COMPLETE, result.reason
    assert result.metrics["val_bpb"] < 4.6
    assert result.metrics["val_bpb"] == pytest.approx(result.metrics["val_loss"] / math.log(2))


@pytest.mark.parametrize("expression", ["x * sigmoid(x)", "atan(x) * sigmoid(beta * x)"])
def test_a_trial_by_table_is_repeatable_and_says_so(expression):
    one = trial(expression=expression, precision="bf16", param_shape="scalar")
    between = trial(expression=expression.replace("sigmoid", "erf"), precision="bf16", param_shape="scalar", seed=9)
    first, _, again = (run_trial(t, go_on) for t in (one, between, one))
    assert first.state == TrialState.COMPLETE, first.reason
    assert first.history == again.history
    assert first.environment["activation"] == "table (native)"
    assert first.environment["precision"] == "bf16"


OUT_OF_MEMORY = """
import resource, sys
from trainers.run import run_trial
from trainers.trial import Trial
small = Trial.from_json(sys.argv[1])
first = run_trial(small, lambda _: False)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 300_000_000,) * 2)
print(run_trial(Trial.from_json(sys.argv[2]), lambda _: False).reason)
print(run_trial(small, lambda _: False).metrics == first.metrics)
"""


def test_memory_that_runs_out_fails_the_trial_with_advice_and_the_next_one_runs():
    big = trial(model=Component("resnet8", {"width": 256}), recipe=Recipe(batch_size=1024))
    done = subprocess.run(
        [sys.executable, "-c", OUT_OF_MEMORY, trial(budget_epochs=1).to_json(), big.to_json()],
        capture_output=True,
        text=True,
    )
    reason, same = done.stdout.splitlines()
    assert reason.startswith("out of memory on cpu: lower recipe.batch_size (it is 1024)")
    assert same == "True"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"expression": "exp(exp(x))"}, "diverged"),
        ({"expression": "exp(exp(x))", "screen": True}, "screened: at initialisation the loss is"),
        ({"expression": "x1 * x2"}, "the model gives it 1"),
        ({"expression": "tanh(x)", "model": Component("gpt", {**TINY_GPT, "ffn": "binary"}), **ON_TEXT}, "gives it 2"),
        ({"model": Component("gpt")}, "ModelError: gpt reads text"),
        ({"data": Component("pydoc")}, "ModelError: resnet8 reads images"),
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
