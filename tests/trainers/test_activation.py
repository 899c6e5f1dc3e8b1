"""Tables of the named functions, against numpy and sympy."""

from __future__ import annotations

import numpy as np
import pytest
import sympy
import torch
from scipy import special

from nas.modules.activations import tabulate
from search_spaces.compile import to_function
from search_spaces.expression import params
from search_spaces.known import KNOWN
from search_spaces.parser import parse
from search_spaces.sympy_bridge import to_sympy
from tests.expressions import evaluate_text

EVERY = torch.arange(65536, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
SMOOTH = ("SiLU", "Swish", "GELU", "GELU (tanh)", "Mish", "Softplus", "TanhExp", "Swish-T", "LiSHT", "tanh", "sigmoid")


@pytest.mark.parametrize("name", KNOWN)
def test_every_entry_is_numpys_value_rounded_once(name):
    expression = parse(KNOWN[name])
    ones = {p: torch.ones(1) for p in params(expression)}
    values = tabulate(to_function(expression), ones, torch.device("cpu"))[0][0]
    finite = EVERY.isfinite() & (EVERY.abs() < 1e30)  # beyond, what overflows first depends on the order of operations
    exact = evaluate_text(str(expression), EVERY[finite].double().numpy(), **dict.fromkeys(ones, 1.0))
    expected, found = torch.from_numpy(exact.copy()).bfloat16(), values[finite]
    differs = ~((found == expected) | (found.isnan() & expected.isnan()))
    assert differs.sum() <= 3, EVERY[finite][differs]  # two libraries round a last digit differently, at most
    neighbours = (found[differs].view(torch.int16).int() - expected[differs].view(torch.int16).int()).abs()
    cancelled = (found[differs].double() - expected[differs].double()).abs() < 1e-12  # 1 + tanh(-8)
    assert ((neighbours <= 1) | cancelled).all()


@pytest.mark.parametrize("name", SMOOTH)
def test_slopes_are_sympys_derivatives(name):
    expression = parse(KNOWN[name])
    names = params(expression)
    slopes = tabulate(to_function(expression), {p: torch.ones(1) for p in names}, torch.device("cpu"))[1][0]
    usual = (EVERY.abs() < 30) & (EVERY.abs() > 1e-30)
    x = EVERY[usual].double().numpy()
    formula = to_sympy(expression)
    symbols = {symbol.name: symbol for symbol in formula.free_symbols}
    for row, by in enumerate(("x", *names)):
        derivative = sympy.lambdify(
            [symbols[n] for n in ("x", *names)],
            sympy.diff(formula, symbols[by]),
            [{"erf": special.erf}, "numpy"],
        )
        with np.errstate(all="ignore"):
            expected = derivative(x, *np.ones(len(names)))
        torch.testing.assert_close(
            slopes[row][usual].double(), torch.from_numpy(expected), rtol=1e-6, atol=1e-9, equal_nan=False
        )
