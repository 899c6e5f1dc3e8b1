"""The tutorial from top to bottom, with budgets that are as small as can be."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys

import pytest

from tests.documents import ROOT, blocks, commands

PAGE = ROOT / "docs" / "tutorial.md"
SMALL = [
    "search.trials=4",
    "trial.epochs=2",
    "pruning=null",
    "retrain.top=2",
    "retrain.seeds=2",
    "baselines=[ReLU, SiLU]",
]
CHANGES = {
    "nas search": [*SMALL, "executor=inline"],
    "nas eval": ["trial.epochs=2", "baselines=[ReLU]", "executor=inline"],
    "nas dashboard": ["--no-open", "--port", "0"],
}
"""What is added to a command, so that it takes seconds."""


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    return tmp_path_factory.mktemp("tutorial")


def environment() -> dict[str, str]:
    return os.environ | {"COLUMNS": "200", "OMP_NUM_THREADS": "1"}


def python(desk, *words: str) -> str:
    done = subprocess.run([sys.executable, *words], cwd=desk, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout


def look_at_the_dashboard(desk, words: list[str]) -> None:
    command = [sys.executable, "-m", "nas", *words]
    with subprocess.Popen(command, cwd=desk, env=environment(), stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        said = next((line for line in server.stderr if "http://127.0.0.1:" in line), "")
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=60)
    assert said


@pytest.mark.slow
def test_every_command_in_its_order(desk):
    for command in commands(PAGE):
        program, *words = shlex.split(command.replace("trial.epochs=5", "trial.max_steps=3"))
        words += CHANGES.get(f"{program} {words[0]}", [])
        if words[0] == "dashboard":
            look_at_the_dashboard(desk, words)
        elif program == "nas":
            python(desk, "-m", "nas", *words)
    assert (desk / "found.png").exists()
    assert (desk / "runs/first/report.html").exists()
    exported = sorted((desk / "exports").glob("*.py"))
    assert len(exported) == 2
    for path in exported:
        python(desk, str(path))
    loads = re.findall(r'^nas\.load\("(.*?)"\)', PAGE.read_text(), re.MULTILINE)
    assert len(loads) == 4
    program = "import sys, torch, nas\nfor source in sys.argv[1:]: print(nas.load(source)(torch.zeros(2, 3)).shape)"
    found = [str(exported[0]) if source.startswith("exports/") else source for source in loads]
    assert python(desk, "-c", program, *found).splitlines() == ["torch.Size([2, 3])"] * 4


def test_the_model_of_ones_own_trains(desk):
    (block,) = (block.text for block in blocks(PAGE) if block.language == "python")
    (desk / "own.py").write_text(
        block.replace("range(200)", "range(40)").replace("seed in range(5)", "seed in range(2)")
    )
    said = python(desk, "own.py")
    shown = next(block.text for block in blocks(PAGE) if block.text.startswith("ReLU: "))
    assert re.sub(r"\d+\.\d", "N", said) == re.sub(r"\d+\.\d", "N", shown)
    assert all(float(value) > 50 for value in re.findall(r": (\d+\.\d)", said))
