"""Features of functions against scipy, quadrature and finite differences."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from search_spaces.features import PROPERTIES, features
from search_spaces.parser import parse
from search_spaces.presets import spaces
from tests.expressions import evaluate_text

WIDTH = 64
FORMULAS = ["tanh(x)", "x * sigmoid(x)", "max(x, 0)", "x ** 3", "sin(3 * x) + 0.5", "exp(-x ** 2)", "sinh(x)", "x"]
QUANTILES = stats.norm.ppf((np.arange(512) + 0.5) / 512)


def rows(*formulas: str) -> np.ndarray:
    return features([parse(formula) for formula in formulas])


def prop(formula: str, name: str) -> float:
    """A property, unsquashed."""
    return float(np.sinh(rows(formula)[0][48 + PROPERTIES.index(name)]))


@pytest.mark.parametrize("formula", FORMULAS)
def test_values_and_slopes_are_those_at_quantiles(formula):
    x = QUANTILES[np.linspace(0, 511, 24).round().astype(int)]
    row = np.sinh(rows(formula)[0])
    step = 1e-6
    slopes = (evaluate_text(formula, x + step) - evaluate_text(formula, x - step)) / (2 * step)
    np.testing.assert_allclose(row[:24], evaluate_text(formula, x), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(row[24:48], slopes, rtol=1e-5, atol=1e-7)


def expectation(formula: str, of=lambda y, x: y) -> float:
    """E of something of f(x) and x over the 512 midpoint quantiles of N(0,1)."""
    return float(np.mean(of(evaluate_text(formula, QUANTILES), QUANTILES)))


@pytest.mark.parametrize("formula", FORMULAS)
def test_properties_are_what_their_names_say(formula):
    x = QUANTILES
    y, mirrored = evaluate_text(formula, x), evaluate_text(formula, -x)
    step = 1e-6
    slope = (evaluate_text(formula, x + step) - evaluate_text(formula, x - step)) / (2 * step)
    line = np.polynomial.Polynomial.fit(x, y, 1).convert().coef
    wanted = {
        "mean": y.mean(),
        "second moment": (y**2).mean(),
        "second moment of the slope": (slope**2).mean(),
        "slope of the best line": line[1],
        "not on that line": ((y - line[0] - line[1] * x) ** 2).mean(),
        "odd part": (((y - mirrored) / 2) ** 2).mean(),
        "even part": (((y + mirrored) / 2) ** 2).mean(),
        "falling": (slope < -1e-7).mean(),
        "least slope": slope.min(),
        "largest slope": slope.max(),
    }
    for name, value in wanted.items():
        assert prop(formula, name) == pytest.approx(value, rel=1e-4, abs=1e-6), name


def test_moments_are_close_to_their_integrals():
    """E[x^2] = 1, E[relu^2] = 1/2, E[tanh^2] by Gauss-Hermite quadrature; the tails beyond ±3.1 are not counted."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    wanted = (weights * np.tanh(nodes) ** 2).sum() / np.sqrt(2 * np.pi)
    assert prop("tanh(x)", "second moment") == pytest.approx(wanted, rel=1e-3)
    assert prop("x", "second moment") == pytest.approx(1, rel=0.01)
    assert prop("max(x, 0)", "second moment") == pytest.approx(0.5, rel=0.01)
    assert prop("x", "not on that line") == pytest.approx(0, abs=1e-12)
    assert prop("x", "even part") == pytest.approx(0, abs=1e-12)


def test_ends_and_counts():
    assert prop("x ** 2", "value at -5") == pytest.approx(25, rel=0.05)
    assert prop("x ** 2", "slope at -5") == pytest.approx(-10, rel=0.05)
    assert prop("x ** 3", "value at +5") == pytest.approx(125, rel=0.08)
    assert prop("x ** 3", "slope at +5") == pytest.approx(75, rel=0.05)
    assert prop("beta * tanh(beta2 * x)", "nodes") == pytest.approx(6)
    assert prop("beta * tanh(beta2 * x)", "parameters") == pytest.approx(2)


def test_learnable_parameters_are_1():
    """Whatever they are called, and whatever else is in the batch."""
    same = rows("beta * tanh(x)", "tanh(gamma7 * x)", "sin(alpha * x) + beta3 - 1", "tanh(x)")
    np.testing.assert_allclose(same[0][:62], same[3][:62], atol=1e-12)
    np.testing.assert_allclose(same[1][:62], same[3][:62], atol=1e-12)
    np.testing.assert_allclose(same[2][:62], rows("sin(x)")[0][:62], atol=1e-12)


def test_every_member_has_finite_features_and_a_row_of_its_own():
    """However wild: 1/0, logarithms of negative numbers, powers that overflow."""
    members = list(spaces.get("three_node")().enumerate())[::5]
    table = features([*members, *map(parse, ("exp(exp(exp(x)))", "1 / (x - x)", "sqrt(x)", "log(x) ** 99"))])
    assert table.shape == (len(members) + 4, WIDTH)
    assert np.isfinite(table).all()
    np.testing.assert_allclose(table[100], features([members[100]])[0], atol=1e-12)
    assert features([]).shape == (0, WIDTH)


def test_equal_functions_differ_in_nodes_alone():
    table = rows("x * sigmoid(x)", "silu(x)", "x / (1 + exp(-x))")
    for row in table[1:]:
        differ = np.abs(row - table[0]) > 1e-9
        assert np.flatnonzero(differ).tolist() == [48 + PROPERTIES.index("nodes")]
