"""``make``: which Python it takes, and what it says before it installs. Pythons here are scripts that pretend."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PRETENDS = """#!/bin/sh
case "$*" in
    --version) echo Python {version} ;;
    "-c import sys"*) exit {too_old} ;;
    "-m venv .venv") mkdir -p .venv/bin; for name in python nas; do cp "$0" .venv/bin/$name; done ;;
    "search digits") echo searched ;;
esac
"""

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@pytest.fixture
def folder(tmp_path) -> Path:
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    for name, version, too_old in (("new", "3.12.1", 0), ("old", "3.9.2", 1)):
        python = tmp_path / name
        python.write_text(PRETENDS.format(version=version, too_old=too_old))
        python.chmod(0o755)
    return tmp_path


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    # make tells the makes that it starts their level and options, and these tests may have been started by one
    mine = {name: value for name, value in os.environ.items() if not name.startswith("MAKE") and name != "MFLAGS"}
    return subprocess.run(["make", *arguments], cwd=folder, capture_output=True, text=True, timeout=60, env=mine)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["search", "PYTHON=python3.999"],
            "python3.999 cannot be started; name a Python of 3.11 or newer that is here: make search "
            "PYTHON=/path/to/python3",
        ),
        (
            ["PYTHON=./old"],
            "./old is Python 3.9.2, which is too old; name a Python of 3.11 or newer that is here: make search "
            "PYTHON=/path/to/python3",
        ),
        (
            ["test", "PYTHON=./no"],
            "./no cannot be started; name a Python of 3.11 or newer that is here: make test PYTHON=/path/to/python3",
        ),
    ],
)
def test_a_python_that_will_not_do_is_a_sentence(folder, arguments, message):
    done = make(folder, *arguments)
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == message
    assert "Installing" not in done.stdout
    assert not (folder / ".venv").exists()


def test_it_says_that_it_installs_when_it_does(folder):
    first, second = (make(folder, "search", "PYTHON=./new") for _ in range(2))
    assert first.stdout.splitlines()[0] == "Installing into .venv: some GB to fetch, several minutes"
    assert first.stdout.splitlines()[-1] == "searched", first.stderr
    assert second.stdout.splitlines() == [".venv/bin/nas search digits", "searched"]
