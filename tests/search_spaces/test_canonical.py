"""Equality by value: equal functions meet, different ones do not; simplification keeps the function."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from search_spaces.canonical import EquivalenceIndex, fingerprint, rejection, simplify
from search_spaces.expression import params, size
from search_spaces.known import KNOWN, known_expression, recognize
from search_spaces.parser import parse
from search_spaces.presets import spaces
from tests.expressions import EXPRESSIONS


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("x * sigmoid(x)", "x / (1 + exp(-x))"),
        ("max(x, 0)", "0.5 * (x + abs(x))"),
        ("tanh(x)", "2 * sigmoid(2 * x) - 1"),
        ("softplus(x)", "x + softplus(-x)"),
        ("min(x, 0)", "-max(-x, 0)"),
        ("sinh(x) + cosh(x)", "exp(x)"),
        ("x * sigmoid(beta * x)", "x * sigmoid(alpha * x)"),
        ("beta * x + sigmoid(alpha * x)", "alpha * x + sigmoid(beta * x)"),
        ("beta * sin(beta2 * x) + beta3", "alpha + beta * sin(gamma * x)"),
        ("x", "x + 0 * beta"),
    ],
)
def test_equal_functions_have_one_key(a, b):
    index = EquivalenceIndex()
    assert index.add(parse(a)) == index.add(parse(b))
    assert index.find(parse(b)) is not None


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("x * sigmoid(x)", "x * sigmoid(beta * x)"),
        ("x * sigmoid(x)", "x * sigmoid(1.001 * x)"),
        ("x", "-x"),
        ("max(x, 0)", "max(x, 0.0001 * x)"),
        ("beta * x", "beta + x"),
        ("beta * x + alpha", "beta * x + beta"),
        ("sqrt(x)", "log(x)"),
        ("tanh(x)", "erf(x)"),
    ],
)
def test_different_functions_have_different_keys(a, b):
    index = EquivalenceIndex()
    assert index.add(parse(a)) != index.add(parse(b))


def test_neighbours_on_both_sides_of_a_rounding_boundary_meet():
    """Values that differ in the 8th digit are equal however they would round."""
    index = EquivalenceIndex()
    keys = {index.add(parse(f"{1 + k * 1e-8!r} * tanh(x)")) for k in range(-5, 6)}
    assert len(keys) == 1


def test_the_index_agrees_with_comparing_all_pairs():
    """On 300 spellings of the one-unit space, against brute force with numpy.allclose."""
    space = spaces.get("swish2017")()
    rng = np.random.default_rng(3)
    sample = [e for e in (space.sample(rng) for _ in range(400)) if not params(e) and rejection(e) is None]
    index = EquivalenceIndex()
    keys = [index.add(e) for e in sample]
    values = [fingerprint(e) for e in sample]
    pairs = [(i, j) for i in range(len(sample)) for j in range(i)]
    equal = [np.allclose(values[i], values[j], rtol=1e-6, atol=1e-9) for i, j in pairs]
    assert any(equal)
    assert [keys[i] == keys[j] for i, j in pairs] == equal


@given(EXPRESSIONS)
def test_simplify_keeps_the_function_and_ends(expression):
    simpler = simplify(expression)
    assert size(simpler) <= size(expression)
    assert simplify(simpler) == simpler
    if len(params(expression)) > 1:
        return  # values are given to parameters in order of appearance, which simplification may change
    before, after = fingerprint(expression), fingerprint(simpler)
    well = np.isfinite(before) & (np.abs(before) < 1e9)
    np.testing.assert_allclose(after[well], before[well], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("text", "simpler"),
    [
        ("--x", "x"),
        ("x + -tanh(x)", "x - tanh(x)"),
        ("x * x", "x ** 2"),
        ("x + x", "2 * x"),
        ("cos(-x) * 1", "cos(x)"),
        ("abs(abs(x)) ** 2", "x ** 2"),
        ("sigmoid(x) * x", "x * sigmoid(x)"),
        ("max(0, x)", "max(x, 0)"),
        ("x * -tanh(x)", "-x * tanh(x)"),
        ("x * (2 + 3)", "5 * x"),
    ],
)
def test_simpler_spellings(text, simpler):
    assert str(simplify(parse(text))) == simpler


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("sqrt(x)", "not finite"),
        ("log(x)", "not finite"),
        ("exp(exp(exp(x)))", "not finite"),
        ("x", "affine"),
        ("2 * x - 1", "affine"),
        ("3", "affine"),
        ("beta", "affine"),
        ("x - beta * x", "affine"),
        ("max(x, -7)", "affine"),
        ("tanh(x)", None),
        ("max(x, 0)", None),
        ("1e-6 * x ** 2", None),
        ("x / (x + 1e-5)", None),
    ],
)
def test_what_cannot_work_is_rejected_before_training(text, reason):
    actual = rejection(parse(text))
    assert (actual is None) if reason is None else (reason in actual)


def test_known_functions_are_themselves_and_differ():
    assert {name: recognize(parse(formula)) for name, formula in KNOWN.items()} == {name: name for name in KNOWN}


def test_known_functions_agree_with_torch():
    import torch
    from torch import nn

    from search_spaces.compile import to_function

    modules = {
        "ReLU": nn.ReLU(),
        "LeakyReLU": nn.LeakyReLU(0.01),
        "ELU": nn.ELU(),
        "SELU": nn.SELU(),
        "GELU": nn.GELU(),
        "GELU (tanh)": nn.GELU("tanh"),
        "SiLU": nn.SiLU(),
        "Mish": nn.Mish(),
        "Softplus": nn.Softplus(),
        "HardSwish": nn.Hardswish(),
        "sigmoid": nn.Sigmoid(),
        "tanh": nn.Tanh(),
        "softsign": nn.Softsign(),
    }
    x = torch.linspace(-8, 8, 401, dtype=torch.float64)
    for name, module in modules.items():
        torch.testing.assert_close(to_function(known_expression(name))(x), module(x), rtol=1e-7, atol=1e-8)


def test_recognition_sees_through_spelling():
    assert recognize(parse("sigmoid(x) * x")) == "SiLU"
    assert recognize(parse("x * sigmoid(gamma7 * x)")) == "Swish"
    assert recognize(parse("x * sigmoid(1.702 * x)")) is None
    with pytest.raises(KeyError, match="did you mean 'SiLU'"):
        known_expression("SiLUU")
