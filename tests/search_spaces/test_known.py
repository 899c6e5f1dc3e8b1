"""The named functions, and recognising them."""

from __future__ import annotations

import pytest

from search_spaces.known import KNOWN, known_expression, recognize
from search_spaces.parser import parse


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
