"""What is published: the wheel holds all of the packages and nothing else, and works where the source tree is not."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PACKAGES = ("nas", "search_spaces", "trainers", "analysis")
KINDS = {".py", ".c", ".h", ".json", ".html", ".js", ".css", ".yaml"}


def expected() -> set[str]:
    """Every file of the packages, and the shipped configurations, as a wheel names them."""
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_file()]
    here = {path.relative_to(ROOT).as_posix() for path in files if "__pycache__" not in path.parts}
    return here | {f"nas/configs/{path.name}" for path in (ROOT / "configs").iterdir()}


def test_the_wheel_would_hold_every_file_of_the_packages():
    included = {file.distribution_path for file in WheelBuilder(str(ROOT)).recurse_included_files()}
    assert included == expected()
    assert {Path(name).suffix for name in included} == KINDS


def test_the_changelog_begins_with_this_version():
    heading = re.search(r"^## (\S+) \((\d{4}-\d\d-\d\d)\)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert heading is not None
    assert heading[1] == PROJECT["version"]


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> tuple[Path, Path]:
    """The source distribution, and the wheel that is built from it."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    (source,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return source, wheel


@pytest.mark.slow
def test_the_built_wheel_holds_them_and_nothing_else(built):
    with zipfile.ZipFile(built[1]) as wheel:
        names = set(wheel.namelist())
    about = {name for name in names if name.startswith(f"nas-{PROJECT['version']}.dist-info/")}
    assert names - about == expected()
    assert {Path(name).name for name in about} >= {"LICENSE", "METADATA", "entry_points.txt"}


@pytest.mark.slow
def test_the_source_distribution_holds_no_results_of_runs(built):
    with tarfile.open(built[0]) as source:
        tops = {Path(name).parts[1] for name in source.getnames()}
    assert tops >= {*PACKAGES, "configs", "tests", "pyproject.toml", "README.md", "LICENSE"}
    assert not tops & {"runs", "exports", "site", "dist", ".venv"}


@pytest.mark.slow
def test_the_wheel_works_without_the_source_tree(built, tmp_path):
    """From an empty folder; what it depends on is this environment's."""
    place, empty = tmp_path / "installed", tmp_path / "empty"
    empty.mkdir()
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(place), str(built[1])]
    subprocess.run(install, check=True, capture_output=True, timeout=300)
    environment = {**os.environ, "PYTHONPATH": str(place), "NO_COLOR": "1"}

    def said(*command: str) -> str:
        done = subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def nas(*arguments: str) -> str:
        return said(sys.executable, "-m", "nas", *arguments)

    assert said(sys.executable, "-c", "import nas; print(nas.__file__)").strip() == str(place / "nas" / "__init__.py")
    assert nas("--version") == f"nas {PROJECT['version']}\n"
    assert "SiLU" in nas("zoo")
    small = ["search.trials=2", "trial.epochs=1", "pruning=null", "retrain.top=1", "retrain.seeds=1", "model.width=4"]
    nas("search", "digits", *small, "executor=inline", "--run", "study")
    assert (empty / nas("report", "study").strip()).stat().st_size > 1_000_000  # with the script that draws
    (module,) = (empty / "study" / "export").glob("*.py")
    assert "values, gradients and second gradients are right" in said(sys.executable, str(module))
    loads = f"import nas, torch; print(nas.load({str(module)!r})(torch.zeros(1, 4)).shape)"
    assert said(sys.executable, "-c", loads) == "torch.Size([1, 4])\n"
