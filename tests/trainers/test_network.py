"""Networks for candidate after candidate, the way the activation is computed, the screen, the choice of precision."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import nn

import trainers.activation as activation
import trainers.precision as precision
from nas.modules.activations import TableActivation, generated, pointwise, tabulate
from search_spaces.compile import ExpressionActivation
from search_spaces.parser import parse
from tests import trainings
from tests.trainings import images
from trainers.activation import make_act, uses_table
from trainers.batches import make_batches
from trainers.network import Network, build_model, network_key
from trainers.screening import fault, signals
from trainers.trial import Component, Recipe, Trial

CPU = torch.device("cpu")


def trial(**changes) -> Trial:
    """In bf16, with one parameter a site, in small batches."""
    of_tables = {"param_shape": "scalar", "precision": "bf16", "recipe": Recipe(batch_size=16, learning_rate=0.1)}
    return trainings.trial(**{**of_tables, **changes})


def trained(network: Network, data, steps: int = 6) -> dict[str, torch.Tensor]:
    """All that a few steps leave behind."""
    batches = make_batches(data, 16, CPU)
    generator = torch.Generator().manual_seed(0)
    network.model.train()
    done = 0
    while done < steps:
        for batch in batches.epoch(generator):
            network.step(batch, 0.1)
            done += 1
    return {name: value.clone() for name, value in network.model.state_dict().items()}


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("expressions", [("tanh(x)", "x * sigmoid(x)"), ("tanh(beta * x)", "x * sigmoid(beta * x)")])
def test_a_restarted_network_trains_as_a_new_one(expressions, optimizer):
    data, recipe = images(), Recipe(batch_size=16, optimizer=optimizer)
    first, second = (trial(expression=e, seed=s, recipe=recipe) for s, e in enumerate(expressions))
    assert network_key(first) == network_key(second)
    used = Network(first, data, CPU, 0)
    trained(used, data)
    used.restart(second)
    new = trained(Network(second, data, CPU, 0), data)
    assert all(torch.equal(value, new[name]) for name, value in trained(used, data).items())


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_every_step_and_validation_sees_the_learned_parameter(optimizer):
    """Tables after steps are those of a fresh module with the same parameter, and the parameter has moved."""
    data = images()
    network = Network(
        trial(expression="x * sigmoid(beta * x)", recipe=Recipe(batch_size=16, optimizer=optimizer)), data, CPU, 0
    )
    trained(network, data, 3)
    for site in network.tables:
        assert abs(site.beta.item() - 1) > 1e-4
        expected = tabulate(site.function, {"beta": site.beta.detach()[None]}, CPU)
        values, slopes, _ = site.tables(CPU)
        assert torch.equal(values.nan_to_num(), expected[0][0].nan_to_num())
        assert torch.equal(slopes.nan_to_num(), expected[1][0].nan_to_num())


def test_a_network_that_diverged_can_be_used_again():
    data = images()
    used = Network(trial(expression="exp(exp(x))"), data, CPU, 0)
    broken = trained(used, data)
    assert not all(value.isfinite().all() for value in broken.values())
    used.restart(trial())
    new = trained(Network(trial(), data, CPU, 0), data)
    assert all(torch.equal(value, new[name]) for name, value in trained(used, data).items())


@pytest.mark.parametrize(
    "other",
    [
        {"expression": "tanh(beta * x)"},
        {"precision": "fp32"},
        {"model": Component("resnet8", {"width": 8})},
        {"recipe": Recipe(batch_size=32)},
        {"data": Component("cifar10")},
    ],
)
def test_other_structures_need_a_network_of_their_own(other):
    assert network_key(trial()) != network_key(trial(**other))


def test_what_is_not_a_table_is_never_shared():
    assert network_key(trial(precision="fp32")) is None
    assert network_key(trial(expression="tanh(beta * x)", param_shape="channel")) is None


@pytest.mark.parametrize(
    ("expression", "param_shape", "of", "expected"),
    [
        ("tanh(x)", "channel", "bf16", True),
        ("tanh(x)", "channel", "fp32", False),
        ("tanh(beta * x)", "scalar", "bf16", True),
        ("tanh(beta * x)", "channel", "bf16", False),
        ("x1 * sigmoid(x2)", "scalar", "bf16", False),
    ],
)
def test_tables_are_of_bf16_and_scalars(expression, param_shape, of, expected):
    assert uses_table(parse(expression), param_shape, of) is expected
    made = make_act(parse(expression), param_shape, of)()
    assert isinstance(made, TableActivation if expected else ExpressionActivation)


def test_a_table_trains_like_the_formula_in_float32():
    """The same network without and with bf16 goes the same way, as far as rounding lets it."""
    data = images()
    losses = []
    for of in ("fp32", "bf16"):
        network = Network(trial(precision=of, expression="x * sigmoid(beta * x)"), data, CPU, 0)
        network.model.train()
        batch = next(make_batches(data, 16, CPU).epoch(torch.Generator().manual_seed(0)))
        losses.append([network.step(batch, 0.05).item() for _ in range(12)])
    fp32, bf16 = losses
    assert fp32[-1] < 0.8 * fp32[0]
    assert bf16 == pytest.approx(fp32, rel=0.05)


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@needs_gpu
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("expression", ["x * sigmoid(x)", "x * sigmoid(beta * x)"])
def test_a_captured_step_trains_like_an_uncaptured_one(expression, optimizer):
    data, gpu = images(), torch.device("cuda", 0)
    recipe = Recipe(batch_size=16, optimizer=optimizer, clip_norm=1.0)
    one = trial(expression=expression, recipe=recipe)
    between = trial(expression=expression.replace("sigmoid", "erf"), recipe=recipe, seed=9)
    plain, graph = (Network(one, data, gpu, 0, graph=captured) for captured in (False, True))
    batch = next(make_batches(data, 16, gpu).epoch(torch.Generator().manual_seed(0)))
    for network in (plain, graph):
        network.model.train()
    expected = [plain.step(batch, 0.05).item() for _ in range(10)]
    assert [graph.step(batch, 0.05).item() for _ in range(10)] == pytest.approx(expected, rel=0.02)
    graph.restart(between)
    graph.step(batch, 0.05)
    graph.restart(one)
    assert [graph.step(batch, 0.05).item() for _ in range(10)] == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("of", ["fp32", "bf16"])
def test_compiled_activations_train_like_eager_ones(of, monkeypatch):
    data = images()
    one = trial(precision=of, expression="x * sigmoid(beta * x)", param_shape="channel")
    eager = Network(one, data, CPU, 10)
    assert eager.activation == "eager"
    monkeypatch.setattr(activation, "COMPILE_FROM", 1.0)
    compiled = Network(one, data, CPU, 10)
    assert compiled.activation == "compiled"
    expected, found = trained(eager, data, 3), trained(compiled, data, 3)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0.02, atol=0.01 if of == "bf16" else 1e-3)


@pytest.mark.parametrize("shape", ["scalar", "channel"])
@pytest.mark.parametrize(
    "expression", ["max(x, 0) + beta * min(x, 0)", "sin(x) / cosh(x)", "gamma * x * sigmoid(beta * x)"]
)
def test_generated_kernels_train_like_eager_activations(expression, shape, monkeypatch):
    data = images()
    one = trial(precision="fp32", expression=expression, param_shape=shape)
    eager = Network(one, data, CPU, 10)
    monkeypatch.setattr(activation, "KERNEL_FROM", 1.0)
    kernel = Network(one, data, CPU, 10)
    assert (eager.activation, kernel.activation) == ("eager", "kernel")
    expected, found = trained(eager, data, 3), trained(kernel, data, 3)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0.02, atol=1e-3)


def test_channels_in_bf16_have_a_kernel(monkeypatch):
    data = images()
    one = trial(precision="bf16", expression="x * sigmoid(beta * x)", param_shape="channel")
    eager = Network(one, data, CPU, 10)
    monkeypatch.setattr(activation, "KERNEL_FROM", 1.0)
    kernel = Network(one, data, CPU, 10)
    assert kernel.activation == "kernel"
    expected, found = trained(eager, data, 3), trained(kernel, data, 3)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0.02, atol=0.01)


@pytest.mark.parametrize(
    ("expression", "why"), [("i0e(x)", "no kernel is generated"), ("x1 * sigmoid(x2)", "two inputs")]
)
def test_what_has_no_kernel_stays_in_operators(expression, why, monkeypatch):
    monkeypatch.setattr(activation, "KERNEL_FROM", 1.0)
    assert activation._kernel(parse(expression), CPU) is None, why


def test_without_a_c_compiler_activations_stay_in_operators(monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(activation, "KERNEL_FROM", 1.0)
    monkeypatch.setenv("CC", "no-such-compiler")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for cached in (pointwise.kernel_for, pointwise._say, generated.kernel):
        cached.cache_clear()
    try:
        with caplog.at_level(logging.WARNING):
            made = Network(trial(precision="fp32"), images(), CPU, 10).activation
    finally:
        for cached in (pointwise.kernel_for, pointwise._say, generated.kernel):
            cached.cache_clear()
    assert made == "eager"
    assert "no-such-compiler is not found" in caplog.text


def test_without_a_compiler_activations_stay_eager_and_it_is_said_once(monkeypatch, caplog):
    def no_compiler(*arguments, **options):
        def fail(*inputs):
            raise RuntimeError("no C++ compiler")

        return fail

    monkeypatch.setattr(activation, "COMPILE_FROM", 1.0)
    monkeypatch.setattr(torch, "compile", no_compiler)
    activation._compiler_works.cache_clear()
    try:
        with caplog.at_level(logging.WARNING):
            made = [Network(trial(precision="fp32"), images(), CPU, 10).activation for _ in range(2)]
    finally:
        activation._compiler_works.cache_clear()
    assert made == ["eager", "eager"]
    assert [record.getMessage().count("no C++ compiler") for record in caplog.records] == [1]


def test_the_seed_alone_decides_the_weights():
    data = images()
    torch.manual_seed(77)
    one = build_model(trial(), data).state_dict()
    torch.manual_seed(78)
    two = build_model(trial(), data).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)


# --- the screen
# --------------------------------------------------------------------------------------------------------


def found_fault(expression: str, **changes) -> str | None:
    data = images()
    network = Network(trial(expression=expression, **changes), data, CPU, 0)
    return fault(signals(network, next(make_batches(data, 16, CPU).epoch(torch.Generator().manual_seed(0)))))


@pytest.mark.parametrize("of", ["fp32", "bf16"])
@pytest.mark.parametrize(
    "expression", ["max(x, 0)", "x * sigmoid(x)", "tanh(x)", "sin(x)", "x * asinh(x) ** 2", "sigmoid(x)"]
)
def test_what_trains_passes_the_screen(expression, of):
    assert found_fault(expression, precision=of) is None


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("exp(exp(x))", "the loss is (nan|inf)"),
        ("1e4 * x * sigmoid(x)", "explodes"),
        ("1e-9 * x * sigmoid(x)", "vanishes"),
        ("max(x, 50)", "vanishes"),
    ],
)
def test_vanishing_and_exploding_signals_are_found(expression, reason):
    with pytest.raises(AssertionError, match=reason):
        assert not found_fault(expression, precision="fp32"), found_fault(expression, precision="fp32")


def test_the_signals_are_those_of_the_definition_and_change_nothing():
    data = images()
    network = Network(trial(precision="fp32"), data, CPU, 0)
    batch = next(make_batches(data, 16, CPU).epoch(torch.Generator().manual_seed(0)))
    before = {name: value.clone() for name, value in network.model.state_dict().items()}
    found = signals(network, batch)
    assert all(torch.equal(value, before[name]) for name, value in network.model.state_dict().items())
    assert all(p.grad is None for p in network.model.parameters())
    network.model.train()
    logits = network.model(batch[0])
    loss = nn.functional.cross_entropy(logits, batch[1])
    loss.backward()
    gradients = {name: p.grad.double() for name, p in network.model.named_parameters()}
    assert found.loss == pytest.approx(loss.item())
    assert found.logits_spread == pytest.approx(logits.double().var(0, correction=0).mean().sqrt().item(), rel=1e-5)
    assert found.first_gradient == pytest.approx(gradients["stem.0.weight"].square().mean().sqrt().item(), rel=1e-5)
    assert found.last_gradient == pytest.approx(gradients["head.weight"].square().mean().sqrt().item(), rel=1e-5)
    assert found.gradient_norm == pytest.approx(
        sum(g.square().sum() for g in gradients.values()).sqrt().item(), rel=1e-5
    )


# --- precision
# ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fp32", "bf16", "expected"),
    [(1.0, 0.5, "bf16"), (1.0, 0.95, "fp32"), (1.0, 2.0, "fp32"), (1.0, 0.8, "bf16"), (1.0, 0.81, "fp32")],
)
def test_bf16_is_chosen_where_it_is_clearly_faster(fp32, bf16, expected, monkeypatch):
    monkeypatch.setattr(precision, "step_times", lambda *_: {"fp32": fp32, "bf16": bf16})
    assert precision.faster_precision(trial(), images(), CPU) == expected


def test_both_precisions_are_really_timed():
    times = precision.step_times(trial(), images(), CPU)
    assert times.keys() == {"fp32", "bf16"}
    assert all(0 < seconds < 10 for seconds in times.values())
