"""Exported files: they compute the function, with torch alone, in somebody else's program."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from hypothesis import given

from analysis.store import Record, Store
from nas.export import export_top
from nas.exported import ExportError, class_name, module_source
from search_spaces.compile import to_function
from search_spaces.equivalence import rejection
from search_spaces.expression import params
from tests.expressions import EXPRESSIONS
from tests.records import make_result, make_trial


@pytest.fixture
def run(tmp_path):
    """A study with Swish (retrained with 2 seeds), an unnamed function, a baseline and a failure."""
    config = {
        "strategy": {"name": "evolution"},
        "space": {"name": "swish2017"},
        "model": {"name": "resnet8"},
        "data": {"name": "digits"},
        "trial": {"epochs": 2, "param_shape": "channel"},
    }
    path = tmp_path / "digits-test"
    path.mkdir()
    rows = [
        ("x * sigmoid(beta * x)", "Swish", "search", 0, 0.9),
        ("max(x, sin(x))", None, "search", 0, 0.95),
        ("max(x, 0)", "ReLU", "retrain", 1, 0.90),
        ("max(x, 0)", "ReLU", "retrain", 2, 0.91),
        ("x * sigmoid(beta * x)", "Swish", "retrain", 1, 0.97),
        ("x * sigmoid(beta * x)", "Swish", "retrain", 2, 0.99),
    ]
    with Store.create(path, config) as store:
        store.put("nas_version", "0.1.0")
        store.put("created", "2026-01-02T03:04:05+0000")
        for number, (text, name, stage, seed, accuracy) in enumerate(rows, 1):
            key = {"Swish": "aaaaaaaaaaaa", "ReLU": "bbbbbbbbbbbb"}.get(name or "", "0c1d2e3f4a5b")
            store.launch(Record(make_trial(number, text, stage, seed), key, text, name, None))
            store.finish(number, make_result(accuracy))
    return path


def load(path):
    spec = importlib.util.spec_from_file_location("exported", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_best_finds_first_and_no_baselines(run, tmp_path):
    paths = export_top(run, 5, tmp_path / "out")
    assert [p.name for p in paths] == ["swish.py", "act0c1d2e.py"]
    card = json.loads(paths[0].with_suffix(".json").read_text())
    assert card["formula"] == "x * sigmoid(beta * x)"
    assert card["parameters"] == ["beta"]
    assert card["val_accuracy"]["mean"] == pytest.approx(0.98)
    assert card["vs_relu"]["mean"] == pytest.approx(0.075)
    assert card["seeds"] == [1, 2]
    text = paths[0].read_text()
    for fact in (
        "x * sigmoid(beta * x)",
        "98.00 %",
        "+7.50 points against ReLU",
        "digits-test",
        "aaaaaaaaaaaa",
        "swish2017",
    ):
        assert fact in text


def test_a_study_of_text_speaks_of_bits_per_byte(tmp_path):
    config = {
        "strategy": {"name": "evolution"},
        "space": {"name": "swish2017"},
        "model": {"name": "gpt"},
        "data": {"name": "pydoc"},
        "trial": {"epochs": 2, "param_shape": "scalar"},
        "search": {"objective": "val_bpb"},
    }
    with Store.create(tmp_path, config) as store:
        store.put("nas_version", "0.1.0")
        store.put("created", "2026-01-02T03:04:05+0000")
        figures = [("a", None, "search", 0, 2.0), ("a", None, "retrain", 1, 2.05), ("r", "ReLU", "retrain", 1, 2.2)]
        for number, (key, name, stage, seed, bpb) in enumerate(figures, 1):
            text = "max(x, 0)" if name else "x * erf(x)"
            store.launch(Record(make_trial(number, text, stage, seed), key * 12, text, name, None))
            result = make_result(0.5)
            store.finish(number, replace(result, metrics=result.metrics | {"val_bpb": bpb}))
    (path,) = export_top(tmp_path, 1, tmp_path / "out")
    text = " ".join(path.read_text().split())
    assert "val_bpb 2.0500 over 1 seed(s), -0.1500 against ReLU on the same seeds (smaller is better)" in text
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["val_bpb"]["mean"] == 2.05
    assert card["vs_relu"] == {
        "metric": "val_bpb",
        "mean": pytest.approx(-0.15),
        "ci95": None,
        "holm_p": None,
        "race": 1,
    }


def test_the_module_is_swish(run, tmp_path):
    """Against the formula written in torch, values and both gradients, shared and per-channel."""
    module = load(export_top(run, 1, tmp_path)[0])
    x = torch.randn(4, 3, 5, dtype=torch.float64, requires_grad=True)
    act = module.Swish(num_parameters=3).double()
    act.beta.data = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    beta = act.beta.detach().view(3, 1)
    torch.testing.assert_close(act(x), x * torch.sigmoid(beta * x))
    assert torch.autograd.gradcheck(act, (x,))
    last = module.Swish(num_parameters=5, channel_dim=-1).double()
    torch.testing.assert_close(last(x), torch.nn.functional.silu(x))
    assert module.Swish()(torch.tensor(1.0)).shape == ()
    assert [n for n, _ in module.Swish().named_parameters()] == ["beta"]


def test_a_function_without_parameters(run, tmp_path):
    module = load(export_top(run, 2, tmp_path)[1])
    x = torch.linspace(-4, 4, 33)
    torch.testing.assert_close(module.Act0c1d2e()(x), torch.maximum(x, torch.sin(x)))
    assert list(module.Act0c1d2e().parameters()) == []


def test_in_a_fresh_interpreter_without_this_project(run, tmp_path, clean_environment):
    """As the README shows it: in an nn.Sequential that is trained, and in a torchvision ResNet."""
    export_top(run, 1, tmp_path / "out")
    program = """
import sys
sys.path = [p for p in sys.path if 'nas' not in p]
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('nas', 'search_spaces', 'trainers', 'analysis', 'ray', 'optuna'):
            raise ImportError('not in this test: ' + name)
sys.meta_path.insert(0, Refuse())
import torch
from torch import nn
from swish import Swish
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 16), Swish(16), nn.Linear(16, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
x, y = torch.randn(64, 8), torch.randint(0, 2, (64,))
losses = []
for _ in range(20):
    loss = nn.functional.cross_entropy(model(x), y)
    optimizer.zero_grad(); loss.backward(); optimizer.step()
    losses.append(loss.item())
assert losses[-1] < losses[0]
assert not torch.equal(model[1].beta, torch.ones(16))
import torchvision
resnet = torchvision.models.resnet18(num_classes=10)
def swap(module):
    for name, child in module.named_children():
        if isinstance(child, nn.ReLU):
            setattr(module, name, Swish())
        else:
            swap(child)
swap(resnet)
assert resnet(torch.randn(2, 3, 32, 32)).shape == (2, 10)
assert sum(isinstance(m, Swish) for m in resnet.modules()) == 9
again = nn.Sequential(nn.Linear(8, 16), Swish(16), nn.Linear(16, 2))
again.load_state_dict(model.state_dict())
assert torch.equal(again(x), model(x))
print('ok')
"""
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path / "out", env=clean_environment, capture_output=True, text=True
    )
    assert result.stdout.strip() == "ok", result.stderr


@given(EXPRESSIONS)
def test_every_function_worth_a_training_can_be_exported(expression):
    if rejection(expression) is not None:
        return
    scope: dict = {}
    exec(compile(module_source(expression, "Found", "In a test.\n"), "found.py", "exec"), scope)  # noqa: S102
    ones = {p: torch.ones((), dtype=torch.float64) for p in params(expression)}
    x = torch.linspace(-3, 3, 50, dtype=torch.float64)
    torch.testing.assert_close(
        scope["Found"]().double()(x), to_function(expression)(x, **ones), rtol=1e-9, atol=1e-12, equal_nan=True
    )


def test_exported_modules_compile_without_graph_breaks(run, tmp_path):
    module = load(export_top(run, 1, tmp_path)[0])
    act = module.Swish(num_parameters=3)
    explanation = torch._dynamo.explain(act)(torch.randn(2, 3, 4))
    assert explanation.graph_break_count == 0


def test_names():
    assert class_name("SiLU", "0123456789ab") == "SiLU"
    assert class_name("ReLU^2", "0123456789ab") == "ReLU2"
    assert class_name("2017: cos(x) - x", "0123456789ab") == "Act012345"
    assert class_name(None, "0123456789ab") == "Act012345"


def test_nothing_to_export(tmp_path):
    with Store.create(tmp_path, {}):
        pass
    with pytest.raises(ExportError, match="no completed function"):
        export_top(tmp_path, 1, tmp_path / "out")


def test_names_in_a_study_cannot_run_code(run, tmp_path):
    """They come from a file that somebody may have sent: in the exported docstring they are only text."""
    proof = tmp_path / "proof"
    evil = f'1"""+str(__import__("os").mkdir("{proof}"))+"""\\x'
    with Store.open(run, write=True) as store:
        store.put("nas_version", evil)
        store.put("created", evil)
        config = store.get("config")
        config["space"]["name"] = evil
        store.put("config", config)
    moved = run.with_name('z"""+q+"""')
    run.rename(moved)
    (path,) = export_top(moved, 1, tmp_path / "out")
    load(path)
    assert not proof.exists()
    assert json.loads(path.with_suffix(".json").read_text())["nas_version"] == evil


def test_a_file_that_fails_its_check_replaces_nothing(run, tmp_path, monkeypatch):
    (tmp_path / "swish.py").write_text("mine")
    monkeypatch.setattr("nas.exported.to_function", lambda expression: lambda x, **parameters: x * parameters["beta"])
    with pytest.raises(ExportError, match="does not compute"):
        export_top(run, 1, tmp_path)
    assert [p.name for p in tmp_path.iterdir() if p.suffix == ".py"] == ["swish.py"]
    assert (tmp_path / "swish.py").read_text() == "mine"
