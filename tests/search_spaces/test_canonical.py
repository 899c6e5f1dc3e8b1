"""The rewrite table keeps every function and ends."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from search_spaces.canonical import simplify
from search_spaces.expression import number_params, params, size
from search_spaces.parser import parse
from search_spaces.values import values_and_slopes
from tests.expressions import EXPRESSIONS


@given(EXPRESSIONS)
def test_simplify_keeps_the_function_and_ends(expression):
    simpler = simplify(expression)
    assert size(simpler) <= size(expression)
    assert simplify(simpler) == simpler
    if len(params(expression)) > 1:
        return  # values are given to parameters in order of appearance, which simplification may change
    before, after = values_and_slopes([number_params(expression), number_params(simpler)])[0]
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
