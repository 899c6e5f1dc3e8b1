"""The named functions, and recognising them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from search_spaces.known import KNOWN, known_expression, recognize
from search_spaces.parser import parse
from search_spaces.recognition import likeness, nearest_known


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


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sigmoid(x) * x", "= SiLU"),
        ("x / (1 + exp(-x))", "= SiLU"),
        ("x * sigmoid(alpha * x)", "= Swish"),
        ("min(x, 0)", "= -ReLU(-x)"),
        ("3 - 2 * x * sigmoid(x)", "= -2 * SiLU(x) + 3"),
        ("2 * sigmoid(2 * x)", "= tanh(x) + 1"),
        ("x - softplus(x)", "= -Softplus(-x)"),
        ("x * sigmoid(1.7 * x)", "= Swish(beta=1.7)"),
        ("max(x, 0.02 * x)", "= PReLU(beta=0.02)"),
        ("beta * x * sigmoid(beta2 * x)", "= SiLU at beta=1, beta2=1"),
        ("exp(-beta * x ** 2)", "= Gaussian at beta=1"),
        ("beta * x * sigmoid(x)", "= SiLU(x) at beta=1"),
        ("min(x, beta)", "= -ReLU(-x) at beta=0"),
        ("beta * max(x, 0) - x", "= ReLU(-x) at beta=1"),
        ("beta * min(x, 0) + gamma * x", "= ReLU at beta=-1, gamma=1"),
        ("2 * tanh(x)", "= tanh, scaled"),
        ("-erf(x)", "= erf, reflected"),
        ("0.5 * sigmoid(x) + 3", "= sigmoid, scaled, shifted"),
        ("-tanh(x) * 2", "= -2 * tanh(x)"),
        ("1e-8 * tanh(x) * 1e3", "= 1e-05 * tanh(x)"),
        ("max(x, 0) + max(x - 6, 0)", "~ ReLU (equal on [-5, 5] alone)"),
        ("x * (0.5 + 1e-3 * x)", "~ Swish(beta=0.004) (equal on [-5, 5] alone)"),
    ],
)
def test_likeness_up_to_scale_shift_reflection_and_parameters(text, said):
    assert str(likeness(parse(text))) == said


def test_a_near_function_says_how_near():
    """x sigmoid(1.702 x) is the usual approximation of GELU; the largest difference is known to be 0.0203."""
    near = {like.name: like for like in nearest_known(parse("x * sigmoid(1.702 * x)"), 4)}
    x = np.linspace(-5, 5, 100_001)
    difference = np.abs(x * special.expit(1.702 * x) - x * special.ndtr(x)).max()
    assert near["GELU"].difference == pytest.approx(difference, abs=2e-4)
    assert str(near["GELU"]) == "~ GELU (max |diff| 0.02)"
    assert likeness(parse("x * tanh(1.2 * x)")) is None
    assert str(likeness(parse("x * erf(beta * x)"))).startswith("~ LiSHT at beta=0.799 (max |diff| 0.025")


@pytest.mark.parametrize("text", ["sqrt(x)", "x", "3", "beta", "0 / 0", "1 / x", "beta + alpha * gamma * delta * x"])
def test_likeness_of_odd_functions_is_an_answer(text):
    assert likeness(parse(text)) is None or likeness(parse(text)).name == "identity"


def test_what_differs_far_out_is_not_called_equal():
    near = [str(like) for like in nearest_known(parse("max(x, 0)"), 6)]
    assert "= ReLU" in near
    assert "= ReLU6" not in near


def test_what_is_far_from_everything_has_no_neighbours_and_what_is_not_near_no_mark():
    assert nearest_known(parse("x * x"), 3) == []
    near = nearest_known(parse("beta * sin(x) + x * (1 - beta)"), 9)
    assert {like.difference > 0.05 for like in near} == {True, False}
    for like in near:
        assert like.difference <= 0.5
        assert str(like).startswith(("=", "~")) == (like.equal or like.difference <= 0.05)
