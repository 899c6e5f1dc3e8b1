"""Completion in the shell, as bash asks for it; and that it knows the names that the program knows."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nas import completion
from nas.strategies import strategies
from nas.yaml_config import read_yaml, shipped_configs
from search_spaces.known import NAMED, known_expression
from search_spaces.presets import spaces

NAS = Path(sys.executable).with_name("nas")
HEAVY = ("torch", "numpy", "pandas", "yaml", "search_spaces", "trainers", "analysis")  # pydantic is typer's own


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A working directory with three studies, a table, and what is neither."""
    for study in ("runs/first", "runs/second", "other/third"):
        (tmp_path / study).mkdir(parents=True)
        (tmp_path / study / "study.db").touch()
    (tmp_path / "tables" / "tiny").mkdir(parents=True)
    (tmp_path / "tables" / "tiny" / "functions.parquet").touch()
    (tmp_path / "runs" / "empty").mkdir()
    (tmp_path / "mine.yaml").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def complete(line: str, **extra: str) -> subprocess.CompletedProcess:
    """What is offered for the last word of a line, through the function that nas gives to bash."""
    words = line.split(" ")
    environment = {**os.environ, **extra}
    script = subprocess.run(
        [str(NAS)], env={**environment, "_NAS_COMPLETE": "source_bash"}, capture_output=True, text=True, check=True
    ).stdout
    ask = f"COMP_WORDS=({shlex.join(words)}); COMP_CWORD={len(words) - 1}; _nas_completion {shlex.quote(str(NAS))}"
    show = 'printf "%s\\n" "${COMPREPLY[@]}"'
    return subprocess.run(
        ["bash", "-c", f"{script}\n{ask}\n{show}"], env=environment, capture_output=True, text=True, timeout=60
    )


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("nas lead", ["leaderboard"]),
        ("nas search rediscover", ["rediscover_swish", "rediscover_swish_digits"]),
        ("nas search m", ["mine.yaml"]),
        ("nas doctor dig", ["digits"]),
        ("nas compare pos", ["positions"]),
        ("nas compare dig", [""]),
        ("nas show SiL", ["SiLU"]),
        ("nas eval runs/", ["runs/first:best", "runs/second:best"]),
        ("nas eval SiLU pyd", ["pydoc_gpt"]),
        ("nas eval SiLU digits --and Mi", ["Mish"]),
        ("nas zoo Soft", ["Softplus"]),
        ("nas space gra", ["grafs"]),
        ("nas bench ", ["tables/tiny"]),
        ("nas bench tables/tiny -s rein", ["reinforce"]),
        ("nas resume ", ["runs/first", "runs/second"]),
        ("nas leaderboard runs/first other/", ["other/third"]),
        ("nas table run", ["runs/first", "runs/second"]),
    ],
)
def test_bash_is_offered(folder, line, offered):
    result = complete(line)
    assert result.stdout.splitlines() == offered, result.stderr


@pytest.mark.parametrize("line", ["nas search dig", "nas show Si", "nas bench t -s ran", "nas resume r"])
def test_it_imports_nothing_heavy(line):
    asked = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" ")), "_NAS_COMPLETE": "complete_bash"}
    result = subprocess.run(
        [sys.executable, "-X", "importtime", str(NAS)], env={**os.environ, **asked}, capture_output=True, text=True
    )
    imported = {entry.rpartition("|")[2].strip().split(".")[0] for entry in result.stderr.splitlines()}
    assert "nas" in imported
    assert not imported & set(HEAVY)


def test_the_names_are_those_that_are_known():
    assert completion.strategies("") == sorted(strategies.names())
    assert {name for name in completion.spaces("") if not name.endswith(".yaml")} == set(spaces.names())
    offered = completion.zoo("")
    assert all(known_expression(name) for name in offered)
    assert [name for name in NAMED if shlex.quote(name) == name or name == "ReLU^2"] == offered


def test_configurations_are_offered_to_the_command_that_takes_them(folder):
    compares = {name: "variants" in read_yaml(path, "") for name, path in shipped_configs().items()}
    assert completion.experiments("") == [name for name, is_one in compares.items() if not is_one] + ["mine.yaml"]
    assert completion.comparisons("") == [name for name, is_one in compares.items() if is_one] + ["mine.yaml"]


@pytest.mark.parametrize("word", ["no/such/folder/", "~nobody-of-that-name/", "a\0b/", "x" * 5000 + "/", "/"])
def test_a_word_that_leads_nowhere_offers_nothing(folder, word):
    assert completion.runs(word) == []


def test_paths_stay_spelled_as_they_were_begun(folder):
    assert completion.runs("./runs/f") == ["./runs/first"]
    assert completion.runs(f"{folder}/oth") == []  # a folder of studies, which the shell's own completion leads into
    assert completion.runs(f"{folder}/other/") == [f"{folder}/other/third"]
