"""Training a relaxation: what it finds, how it begins, what becomes of one that cannot work."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from tests.trainings import images, trial
from trainers.batches import make_batches
from trainers.data import Text
from trainers.loop import factor, validate
from trainers.network import Network
from trainers.relax import halves, relax
from trainers.run import load_data, run_trial
from trainers.trial import Recipe, Relaxation, Trial, TrialResult, TrialState

CPU = torch.device("cpu")


SQUARE = Relaxation("u(x)", ("tanh(x)", "x ** 2"))


def relaxed(*unary: str, epochs: int = 2, **changes) -> Trial:
    changes.setdefault("relaxation", Relaxation("u(x)", unary))
    return trial(stage="relax", budget_epochs=epochs, **changes)


def never(result: TrialResult) -> bool:
    return False


@pytest.mark.parametrize("seed", [3, 4])
def test_it_finds_the_operator_that_a_network_can_learn_with(seed):
    """With 0 everywhere no signal passes; the order of the operators is of no matter."""
    for operators in (("tanh(x)", "0"), ("0", "tanh(x)")):
        result = run_trial(relaxed(*operators, epochs=6, seed=seed), never)
        assert result.state == TrialState.COMPLETE
        weights = dict(zip(operators, result.weights[0], strict=True))
        assert weights["tanh(x)"] > 0.6
        assert sum(weights.values()) == pytest.approx(1, abs=1e-5)
        assert [m["epoch"] for m in result.history] == list(range(1, 7))
        assert all(math.isfinite(m["val_loss"]) for m in result.history)


def test_weights_are_in_the_order_of_the_choice_vector_and_0_for_what_is_not_finite():
    wanted = Relaxation("b(u(x), u(x))", ("1 / x", "tanh(x)", "sin(x)"), ("x1 + x2", "x1 / x2"))
    result = run_trial(relaxed(relaxation=wanted, epochs=3), never)
    assert [len(w) for w in result.weights] == [3, 3, 2]
    assert [w[0] for w in result.weights[:2]] == [0, 0]
    assert result.weights[2] == pytest.approx([1, 0], abs=1e-6)
    assert all(sum(w) == pytest.approx(1, abs=1e-5) for w in result.weights)
    assert TrialResult.from_json(result.to_json()) == result


def test_the_first_epoch_is_that_of_a_network_with_relu():
    """On one half of the training data; the cell learns nothing in it."""
    job = relaxed("tanh(x)", "0", epochs=3)
    data = load_data(job.data.to_json())
    reports = []
    relax(job, data, CPU, reports.append)
    batches = make_batches(halves(data, job.seed)[0], job.recipe.batch_size, CPU)
    steps = 3 * len(batches)
    network = Network(replace(job, expression="relu(x)", relaxation=None), data, CPU, steps)
    network.model.train()
    losses = [
        network.step(batch, job.recipe.learning_rate * factor(job.recipe, step, steps)).item()
        for step, batch in enumerate(batches.epoch(torch.Generator().manual_seed(job.seed)))
    ]
    wanted = validate(network, batches)
    assert reports[0]["train_loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-4)
    assert reports[0]["val_loss"] == pytest.approx(wanted["val_loss"], rel=1e-4)


def test_the_expected_weights_are_averaged_over_the_search():
    """With one epoch of search and equal operators, nothing is ever dropped before it is counted."""
    result = run_trial(relaxed("tanh(x)", "tanh(x + 0)", "tanh(x - 0)", epochs=2), never)
    assert all(0.25 < w < 0.42 for w in result.weights[0])


def test_the_same_seed_gives_the_same_weights():
    first, second = (run_trial(relaxed("tanh(x)", "sin(x)", epochs=3), never).weights for _ in range(2))
    assert first == second
    assert run_trial(relaxed("tanh(x)", "sin(x)", epochs=3, seed=8), never).weights != first


def test_halves_share_the_training_images():
    data = images(n=63)  # 47 of them for training
    first, second = halves(data, 0)
    assert sorted(map(len, (first.train_x, second.train_x))) == [23, 24]
    key = lambda x: x.numpy().tobytes()  # noqa: E731
    labels = {key(x): int(y) for x, y in zip(data.train_x, data.train_y, strict=True)}
    parts = [{key(x): int(y) for x, y in zip(h.train_x, h.train_y, strict=True)} for h in (first, second)]
    assert not set(parts[0]) & set(parts[1])
    assert parts[0] | parts[1] == labels
    assert torch.equal(first.val_x, data.val_x)
    assert {key(x) for x in halves(data, 1)[0].train_x} != set(parts[0])
    assert {key(x) for x in halves(data, 0)[0].train_x} == set(parts[0])


def test_halves_of_a_text_follow_each_other():
    text = Text(torch.arange(101, dtype=torch.uint8), torch.arange(7, dtype=torch.uint8), context=4)
    first, second = halves(text, 0)
    assert torch.equal(torch.cat([first.train, second.train]), text.train)
    assert len(first.train) == 50
    assert torch.equal(second.val, text.val)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"epochs": 1}, "at least 2 epochs"),
        ({"recipe": Recipe(batch_size=128, learning_rate=1e25), "epochs": 3}, "diverged"),
        # the training losses stay finite, the validation loss does not
        ({"recipe": Recipe(batch_size=1000, learning_rate=1e15), "relaxation": SQUARE, "epochs": 3}, "diverged"),
        ({"max_seconds": 1e-9}, "out of time"),
        ({"max_steps": 3}, "a relaxation's budget is in epochs"),
        ({"relaxation": Relaxation("u(x)", ("1 / x",))}, "no operator that stays finite"),
        ({"relaxation": Relaxation("v(x)", ("x",))}, "expected u, b, n or x"),
    ],
)
def test_one_that_cannot_work_is_a_failure_with_a_reason(changes, reason):
    result = run_trial(relaxed("tanh(x)", "sin(x)", **changes), never)
    assert result.state == TrialState.FAIL
    assert reason in result.reason
    assert result.weights is None


def test_it_can_be_stopped():
    result = run_trial(relaxed("tanh(x)", "sin(x)", epochs=4, report_epochs=(2,)), lambda result: True)
    assert (result.state, len(result.history)) == (TrialState.PRUNED, 2)


def test_a_trial_with_a_relaxation_travels_as_json():
    wanted = Relaxation("b(u(x), u(x))", ("x", "beta * x"), ("x1 / (x2 + 1e-5)",), (), 0.02, 30, attempt=1)
    job = relaxed(relaxation=wanted, epochs=30)
    again = Trial.from_json(job.to_json())
    assert again == job
    assert hash(again.relaxation) == hash(wanted)  # lists have become tuples again
    assert Trial.from_json(trial().to_json()).relaxation is None
