"""ONNX files of plain operators, against torch by onnxruntime."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import nas
from nas.onnx_export import OnnxError, export_function
from nas.zoo import copy_to, find
from search_spaces.known import NAMED

pytestmark = pytest.mark.filterwarnings("ignore")


def run(path, x):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]


def operators(path):
    return [node.op_type for node in onnx.load(path).graph.node]


@pytest.mark.parametrize("name", ["GELU", "xIELU", "2017: sinc(x) + x"])
def test_known_functions(name, tmp_path):
    act = nas.load(name)
    path = nas.to_onnx(act, torch.randn(2, 3, 4), tmp_path / "act.onnx")
    x = torch.linspace(-5, 5, 120).view(10, 3, 4)  # more rows than the example had
    np.testing.assert_allclose(run(path, x), act(x).detach().numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMED)
def test_all_known_functions(name, tmp_path):
    nas.to_onnx(nas.load(name), torch.linspace(-5, 5, 120).view(10, 12), tmp_path / "act.onnx")


def test_swish_is_an_operator_of_opset_24(tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nas.Activation("sigmoid(1.5 * x) * x"), nas.load("SiLU")).train()
    x = torch.randn(2, 3, 5, 5)
    assert operators(nas.to_onnx(model, x, tmp_path / "20.onnx"))[1:] == ["Mul", "Sigmoid", "Mul", "Sigmoid", "Mul"]
    path = nas.to_onnx(model, x, tmp_path / "24.onnx", opset=24)
    assert operators(path) == ["Conv", "Swish", "Swish"]
    onnx.checker.check_model(onnx.load(path))
    np.testing.assert_allclose(run(path, x), model(x).detach().numpy(), rtol=1e-5, atol=1e-5)
    assert model.training


def test_a_beta_a_channel_is_multiplied(tmp_path):
    act = nas.Activation("x * sigmoid(beta * x)", beta=torch.tensor([0.5, 1.0, 2.0]))
    path = nas.to_onnx(act, torch.randn(2, 3, 4), tmp_path / "act.onnx", opset=24)
    assert operators(path) == ["Mul", "Sigmoid", "Mul"]


def test_an_exported_function(tmp_path):
    path = export_function(copy_to(find("Swish"), tmp_path))
    x = torch.randn(9, 4)
    np.testing.assert_allclose(run(path, x), torch.nn.functional.silu(x).numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "name", "opset", "why"),
    [
        ("i0e(x)", "a.onnx", 20, "bessel_i0e.default has no ONNX form"),
        ("x * sigmoid(x)", "a.onnx", 99, "an opset is a number from 18"),
        ("x * sigmoid(x)", "no/such/folder/a.onnx", 20, "cannot be written"),
    ],
)
def test_what_cannot_be_written(text, name, opset, why, tmp_path):
    with pytest.raises(OnnxError, match=why):
        nas.to_onnx(nas.Activation(text), torch.randn(2, 3), tmp_path / name, opset=opset)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_computes_something_else_replaces_nothing(tmp_path):
    class Fickle(nn.Module):
        def forward(self, x):
            return x * (1.0 if torch.compiler.is_compiling() else 2.0)

    path = tmp_path / "a.onnx"
    path.write_text("mine")
    with pytest.raises(OnnxError, match="differs from torch's"):
        nas.to_onnx(Fickle(), torch.ones(2, 3), path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.onnx"]
    assert path.read_text() == "mine"


def test_without_its_packages_it_says_so(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(OnnxError, match="pip install onnx onnxscript onnxruntime"):
        nas.to_onnx(nas.load("SiLU"), torch.ones(2, 3), tmp_path / "a.onnx")
