"""The files of the guides work where the guides say that they go: in a checkout, and beside an installed wheel."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documents import ROOT, blocks, files

GUIDES = ROOT / "docs" / "guides"
TINY = ["search.trials=3", "trial.epochs=2", "pruning=null", "retrain.top=1", "retrain.seeds=1", "baselines=[]"]


def run(place: Path, *words: str, path: Path = ROOT) -> str:
    """A Python command in a directory, with our packages from ``path``; what it printed."""
    env = os.environ | {"PYTHONPATH": str(path), "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *words], cwd=place, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def given(guide: str, place: Path) -> None:
    """Write the files of a guide to a directory."""
    for name, text in files(GUIDES / f"{guide}.md").items():
        (place / name).write_text(text)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the packages with every guide's file in its place."""
    place = tmp_path_factory.mktemp("checkout")
    for name in ("nas", "search_spaces", "trainers", "analysis", "configs", "tests"):
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    (place / "trainers/data/npz.py").write_text(files(GUIDES / "data.md")["npz.py"])
    for name in ("mlp.py", "theirs.py"):
        (place / "trainers/models" / name).write_text(files(GUIDES / "model.md")[name])
    (place / "nas/strategies/hill_climbing.py").write_text(files(GUIDES / "strategy.md")["hill_climbing.py"])
    row = next(b.text for b in blocks(GUIDES / "operator.md") if b.title.startswith("a row"))
    table = place / "search_spaces/operators.py"
    table.write_text(table.read_text().replace("    # --- binary ---\n", f"{row}    # --- binary ---\n"))
    return place


@pytest.mark.slow
def test_a_folder_of_pictures(tmp_path):
    given("data", tmp_path)
    run(tmp_path, "pictures.py")
    said = run(tmp_path, "-m", "nas", "search", "mine.yaml", *TINY, "executor=inline", "--run", "runs/mine")
    assert "Exported winner" in said
    run(tmp_path, "-m", "nas", "confirm", "runs/mine", "--top", "1", "--seeds", "1")


NPZ = """
import numpy as np
from sklearn.datasets import load_digits
x, y = load_digits(return_X_y=True)
x = (x * 15).astype("uint8").reshape(-1, 8, 8)
np.savez("mine.npz", images=x[:300], labels=y[:300], test_images=x[300:400], test_labels=y[300:400])
"""


@pytest.mark.parametrize(
    ("guide", "changes"),
    [
        pytest.param(
            "data", ["data={name: npz, root: mine.npz}", "model={name: resnet8, width: 4}"], marks=pytest.mark.slow
        ),
        pytest.param("model", ["model={name: mlp, hidden: 16}"], marks=pytest.mark.slow),
        pytest.param("strategy", ["strategy=hill_climbing", "model.width=4"], marks=pytest.mark.slow),
    ],
)
def test_beside_a_wheel_a_file_is_imported_first(tmp_path, guide, changes):
    given(guide, tmp_path)
    run(tmp_path, "-c", NPZ)
    words = ["search", "digits", *TINY, *changes, "executor=inline", "--run", "runs/mine"]
    assert "Exported winner" in run(tmp_path, "run.py", *words)
    run(tmp_path, "run.py", "confirm", "runs/mine", "--top", "1", "--seeds", "1")
    run(tmp_path, "-m", "nas", "leaderboard", "runs/mine")  # reading needs no file of the guide's


@pytest.mark.slow
def test_a_strategy_beside_a_wheel_needs_no_file_in_rays_workers(tmp_path):
    given("strategy", tmp_path)
    words = ["search", "digits", *TINY, "strategy=hill_climbing", "model.width=4", "workers=1", "--run", "runs/mine"]
    assert "Exported winner" in run(tmp_path, "run.py", *words)


def test_a_model_in_a_checkout_is_found(checkout, tmp_path):
    words = ["eval", "ReLU", "digits", "model=mlp", "--seeds", "1", "--no-baselines", "trial.epochs=2"]
    assert "ReLU" in run(tmp_path, "-m", "nas", *words, "executor=inline", path=checkout)


def test_a_librarys_model_in_a_checkout_is_found(checkout, tmp_path):
    program = (
        "import torch; from torch import nn; from trainers.models import models;"
        "m = models.get('squeezenet')(nn.SiLU, (3, 32, 32), 10); print(m(torch.zeros(2, 3, 32, 32)).shape, m)"
    )
    said = run(tmp_path, "-c", program, path=checkout)
    assert "torch.Size([2, 10])" in said
    assert "SiLU()" in said
    assert "ReLU" not in said


def test_an_operator_in_a_checkout_is_known_to_everything(checkout, tmp_path):
    said = run(tmp_path, "-m", "nas", "show", "x * ndtr(x)", path=checkout)
    assert re.search(r"is +(= )?GELU", said), said
    program = (
        "from search_spaces.parser import parse; from nas.activation import Activation; import torch;"
        "x = torch.linspace(-4, 4, 9, requires_grad=True); y = Activation('x * ndtr(x)')(x); y.sum().backward();"
        "torch.testing.assert_close(y, torch.nn.functional.gelu(x)); print(x.grad.isfinite().all())"
    )
    assert "True" in run(tmp_path, "-c", program, path=checkout)


@pytest.mark.slow
def test_a_strategy_in_a_checkout_passes_the_contract_and_is_replayed(checkout, tmp_path):
    contract = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:dash", "--import-mode=importlib"]
    wanted = ["tests/nas/test_strategies.py", "-k", "hill_climbing and contract"]
    assert " passed" in run(checkout, *contract, *wanted, path=checkout)
    words = ["bench", str(ROOT / "tables/three_node_digits"), "-s", "hill_climbing", "-s", "random"]
    said = run(tmp_path, "-m", "nas", *words, "--replays", "2", "--evaluations", "20", "--workers", "1", path=checkout)
    assert "hill_climbing" in said
