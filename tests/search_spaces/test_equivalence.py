"""Equality by value: equal functions meet, different ones do not, and what cannot be trained is told apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from search_spaces.compile import to_function
from search_spaces.equivalence import EquivalenceIndex, examine, rejection
from search_spaces.parser import parse
from search_spaces.presets import spaces


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


@pytest.mark.parametrize(
    ("a", "b", "level"),
    [
        ("max(x, 0)", "min(x, 0)", "reflection"),
        ("x * sigmoid(x)", "x * sigmoid(-x)", "reflection"),
        ("exp(x)", "-exp(-x)", "reflection"),
        ("tanh(x)", "0.5 + 3 * sigmoid(2 * x)", "affine"),
        ("max(x, 0)", "1 - 2 * max(-x, 0)", "affine"),
        ("abs(x)", "3 - 2 * abs(x)", "affine"),
        ("softplus(x)", "logsigmoid(x)", "reflection"),
    ],
)
def test_functions_are_the_same_up_to_the_level(a, b, level):
    levels = ["exact", "reflection", "affine"]
    for each in levels:
        index = EquivalenceIndex(each)
        same = index.add(parse(a)) == index.add(parse(b))
        assert same == (levels.index(each) >= levels.index(level))


@pytest.mark.parametrize("level", ["exact", "reflection", "affine"])
@pytest.mark.parametrize(("a", "b"), [("max(x, 0)", "abs(x)"), ("x * sigmoid(x)", "x * erf(x)"), ("sin(x)", "cos(x)")])
def test_different_functions_differ_on_every_level(a, b, level):
    index = EquivalenceIndex(level)
    assert index.add(parse(a)) != index.add(parse(b))


def test_the_index_agrees_with_comparing_all_pairs():
    """On the three-node space's functions of two unary operators out of nine, against numpy on values and slopes."""
    operators = ["x", "-x", "abs(x)", "x ** 2", "tanh(x)", "erf(x)", "max(x, 0)", "sigmoid(x)", "1"]
    space = spaces.get("custom")(shapes=["b(u(x), u(x))"], unary=operators, binary=["add", "sub", "mul", "max", "min"])
    members = list(space.enumerate())
    index = EquivalenceIndex()
    keys = [index.add(member) for member in members]
    x = np.linspace(-6, 6, 301) + 0.001
    values = np.array([to_function(member)(torch.from_numpy(x)).numpy() for member in members])
    for i in range(len(members)):
        equal = np.isclose(values, values[i], rtol=1e-6, atol=1e-9).all(axis=1)
        assert [key == keys[i] for key in keys] == equal.tolist()


def test_signatures_do_not_depend_on_the_company():
    """One by one or in a batch with shared subexpressions: the same rows, to the last bit."""
    members = list(spaces.get("swish2017")().enumerate())[1000:1040]
    together = examine(members).signatures
    alone = np.concatenate([examine([member]).signatures for member in members])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-13)


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
        ("max(x, -7)", None),
        ("max(x, -9)", "affine"),
        ("sqrt(x + abs(x))", "slope not finite"),
        ("1 / x", "not finite"),
        ("exp(x) ** exp(x)", "not finite"),  # in float32
        ("tanh(x)", None),
        ("max(x, 0)", None),
        ("1e-6 * x ** 2", None),
        ("x / (x + 1e-5)", None),
    ],
)
def test_what_cannot_work_is_rejected_before_training(text, reason):
    actual = rejection(parse(text))
    assert (actual is None) if reason is None else (reason in actual)
