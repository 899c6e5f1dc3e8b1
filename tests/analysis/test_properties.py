"""Properties of functions whose properties are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, special, stats

from analysis.properties import properties
from search_spaces.known import known_expression
from search_spaces.parser import parse


def described(text: str, seconds: float = 5.0) -> dict[str, str]:
    try:
        expression = known_expression(text)
    except KeyError:
        expression = parse(text)
    return {entry.name: entry.value for entry in properties(expression, seconds)}


def test_silu():
    facts = described("SiLU")
    assert facts["Swish family"] == "yes"
    assert facts["parity"] == "neither even nor odd"
    assert facts["monotone"] == "no: minimum -0.2785 at x = -1.278"  # where 1 + x (1 - sigmoid(x)) = 0
    assert facts["range"] == "-0.2785 to inf"
    assert (facts["limit at -inf"], facts["limit at +inf"]) == ("0", "inf")
    assert (facts["asymptote at -inf"], facts["asymptote at +inf"]) == ("y = 0", "y = x")
    assert facts["f(0)"] == "0"
    assert facts["smoothness"] == "C2 or smoother"
    assert facts["saturates"] == "left"
    assert float(facts["Lipschitz constant"]) == pytest.approx(1.0998, abs=2e-4)


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("tanh", "parity", "odd"),
        ("cosh(x)", "parity", "even"),
        ("tanh", "range", "-1 to 1"),
        ("tanh", "saturates", "left and right"),
        ("tanh", "monotone", "increasing"),
        ("2017: cos(x) - x", "monotone", "decreasing"),
        ("2017: cos(x) - x", "Lipschitz constant", "2"),
        ("2017: cos(x) - x", "asymptote at +inf", "none"),
        ("sin", "limit at +inf", "none"),
        ("Softplus", "asymptote at +inf", "y = x"),
        ("softplus(x) + 2 * x - 1", "asymptote at +inf", "y = 3 x - 1"),
        ("LeakyReLU", "asymptote at -inf", "y = 0.01 x"),
        ("ReLU", "smoothness", "C0: f' jumps at x = 0"),
        ("max(x, 1.5) + min(x, -2)", "smoothness", "C0: f' jumps at x = -2, 1.5"),
        ("ELU", "smoothness", "C1: f'' jumps at x = 0"),
        ("SELU", "smoothness", "C0: f' jumps at x = 0"),
        ("ReLU^2", "smoothness", "C1: f'' jumps at x = 0"),
        ("ReLU^2", "Lipschitz constant", "none: f' is unbounded"),
        ("GELU", "smoothness", "C2 or smoother"),
        ("sqrt(x)", "finite", "no: undefined or infinite at x = -12, for one"),
        ("1 / x", "finite", "no: unbounded near x = 0"),
        ("cos(x) / x", "finite", "no: unbounded near x = 0"),
        ("1 / (x - 1.5)", "finite", "no: unbounded near x = 1.5"),
        ("sin(x) / x", "finite", "no: undefined at x = 0, where it comes from 1 on the left and 1 on the right"),
        ("x / abs(x)", "finite", "no: undefined at x = 0, where it comes from -1 on the left and 1 on the right"),
        ("max(x - 13, 0)", "parity", "neither even nor odd"),
        ("1e5 * sigmoid(x)", "range", "0 to 1e+05"),
        ("1e6 * tanh(x)", "range", "-1e+06 to 1e+06"),
        ("abs(x)", "range", "0 to inf"),
        ("abs(x)", "monotone", "no: minimum 0 at x = 0"),
        ("x * sin(x)", "range", "-inf to inf"),
        ("sigmoid(x * sigmoid(x)) ** x", "limit at -inf", "inf"),
        ("max(x - 1.23456, 0)", "asymptote at +inf", "y = x - 1.235"),
        ("max(min(x, 20), -20)", "asymptote at -inf", "y = -20"),
        ("sqrt(abs(x))", "saturates", "left and right"),
        ("log(1 + x ** 2)", "saturates", "left and right"),
        ("1e-3 * x", "saturates", "nowhere"),
        ("sin(exp(x) / 1000)", "smoothness", "C2 or smoother"),
        ("abs(x) ** 1.5", "smoothness", "C1: f'' is unbounded near x = 0"),
        ("sigmoid(x)", "f(0)", "0.5"),
    ],
)
def test_single_properties(text, name, value):
    assert described(text)[name] == value


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("SiLU", "yes"),
        ("Swish", "yes"),
        ("GELU", "yes"),
        ("Mish", "yes"),
        ("GoLU", "yes"),
        ("TanhExp", "yes"),
        ("ReLU", "yes"),
        ("HardSwish", "yes"),
        ("1e-3 * x * sigmoid(x)", "yes"),
        ("1e4 * x * sigmoid(x)", "yes"),
        ("max(x - 1.23456, 0)", "yes"),
        ("-x * sigmoid(-x)", "no"),  # g = -sigmoid(-x) goes to -1 on the left
        ("x * sigmoid(-x)", "yes, reflected"),
        ("min(x, 0)", "yes, reflected"),
        ("LeakyReLU", "no: g(-inf) is 0.01, not 0"),
        ("Softplus", "no: f(0) is not 0"),
        ("tanh", "no: g(+inf) is 0, not finite and > 0"),
        ("LiSHT", "no: g(-inf) is -1, not 0"),
        ("ReLU^2", "no: g(+inf) is inf"),
        ("sqrt(abs(x)) * sigmoid(x)", "no: g(x) = f(x)/x is unbounded near 0"),
    ],
)
@pytest.mark.parametrize("seconds", [5.0, 0.0], ids=["sympy", "values"])
def test_self_gates(text, answer, seconds):
    """With sympy's help and without, the answer is the same."""
    assert described(text, seconds)["self-gated"].startswith(answer)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        *((name, "yes") for name in ("SiLU", "Swish", "GELU", "Mish", "HardSwish", "-x * sigmoid(x)", "x * erfc(x)")),
        *((name, "no: it has no dip that vanishes") for name in ("ReLU", "ELU", "min(x, 0)")),
        *((name, "no: it is not self-gated") for name in ("tanh", "LeakyReLU", "LiSHT")),
    ],
)
def test_membership_of_the_swish_family(text, answer):
    """As a leaderboard has it."""
    assert described(text, 0.0)["Swish family"] == answer


@pytest.mark.parametrize(
    ("text", "f", "slope"),
    [
        ("ReLU", lambda z: np.maximum(z, 0), lambda z: (z > 0) * 1.0),
        ("GELU", lambda z: z * special.ndtr(z), lambda z: special.ndtr(z) + z * stats.norm.pdf(z)),
        ("tanh", np.tanh, lambda z: 1 - np.tanh(z) ** 2),
        ("SiLU", lambda z: z * special.expit(z), None),
        ("sigmoid", special.expit, None),
    ],
)
def test_moments_agree_with_quadrature(text, f, slope):
    """.500, .425, .394, .356 and .293 for E[f(z)^2], z from N(0,1)."""
    facts = described(text, 0)
    for name, function in (("E[f(z)^2], z~N(0,1)", f), ("E[f'(z)^2], z~N(0,1)", slope)):
        if function is not None:
            expected, _ = integrate.quad(lambda z, g=function: g(z) ** 2 * stats.norm.pdf(z), -12, 12, points=[0])
            assert float(facts[name]) == pytest.approx(expected, abs=2e-4)


def test_every_known_function_has_all_properties_quickly():
    from search_spaces.known import KNOWN

    for name in KNOWN:
        assert len(described(name, 0)) == 15, name


def test_the_source_is_said():
    facts = {entry.name: entry for entry in properties(known_expression("SiLU"))}
    assert facts["limit at -inf"].source == "sympy"
    assert facts["range"].source == "values"


def test_what_turns_far_out_is_not_monotone():
    assert "minimum -1 at x = -15.71, maximum 1 at x = 15.71" in described("sin(0.1 * x)")["monotone"]
    assert described("x * sigmoid(0.01 * x)")["monotone"].startswith("no: minimum -27.85 at x = -12")
    assert described("x * (0.5 + 1e-3 * x)")["range"].endswith(" to inf")
