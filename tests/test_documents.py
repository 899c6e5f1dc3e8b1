"""What the documents show can be typed as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def python_blocks(name: str) -> str:
    return "\n".join(re.findall(r"^```python\n(.*?)^```", (ROOT / name).read_text(), re.DOTALL | re.MULTILINE))


def test_the_components_page_runs(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", python_blocks("docs/modules.md")], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("tensor(") == 10


def test_the_readme_builds_its_model(tmp_path):
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    block = next(block for block in blocks if "TransformerLM" in block)
    program = block + "\nimport torch\nprint(tuple(model(torch.zeros(1, 600, dtype=torch.long)).shape))"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.strip() == "(1, 600, 256)", done.stderr


def test_the_readme_puts_an_activation_into_three_libraries_models(tmp_path):
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    block = next(block for block in blocks if "replace_activations" in block)
    program = (
        block
        + """
import torch
given = (resnet, torch.randn(2, 3, 64, 64)), (vit, torch.randn(1, 3, 224, 224)), (llama, torch.ones(1, 5).long())
for model, x in given:
    found = [module for module in model.modules() if isinstance(module, nas.Activation)]
    model(x)
    print(len(found), len({id(module.beta) for module in found}))
"""
    )
    env = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, env=env)
    assert done.stdout.splitlines()[-3:] == ["17 17", "12 12", "2 2"], done.stderr


def test_the_activations_page_runs(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", python_blocks("docs/activations.md")], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "Activation(x * sigmoid(beta * x)) torch.Size([64])",
        "torch.Size([64])",
        "tensor([0., 0., 0.])",
        "silu.onnx",
    ]


_DOCS = (
    "activations",
    "models",
    "modules",
    "cluster",
    "dashboard",
    "decisions",
    "integrations",
    "reading",
    "strategies",
    "yardstick",
)
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    *(f"docs/{name}.md" for name in _DOCS),
]


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name):
    page = ROOT / name
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert "://" in target or (page.parent / target).exists(), target
