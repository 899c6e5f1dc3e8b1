"""The documents as a site: it builds without a warning, asks nothing of any other server, and leaves nothing out."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from html import unescape

import pytest
import typer

from nas import modules
from nas.cli import app
from nas.comparison import ComparisonConfig, TrainingConfig
from nas.config import ExperimentConfig
from nas.strategies import strategies
from search_spaces.presets import spaces
from tests.documents import ROOT, blocks
from trainers.data import datasets
from trainers.models import models
from trainers.tasks import tasks

sys.path.insert(0, str(ROOT / "docs" / "generate"))
from configuration import descriptions, sections

GENERATED = {"reference/commands.md", "reference/configuration.md"}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Built as ``make docs`` does it: links that lead nowhere end it."""
    place = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(place)]
    env = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return place


def text_of(site, page: str) -> str:
    return unescape(re.sub(r"<[^>]+>", "", (site / page).read_text()))


def test_no_page_asks_anything_of_another_server(site):
    loaded = re.compile(r"<(?:script|link|img|iframe|source|form)\b[^>]*?(?:src|href|action)=\"?(https?:)?//")
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 25
    for page in pages:
        assert not loaded.search(page.read_text()), page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"@import|url\(\s*['\"]?(?:https?:)?//", sheet.read_text()), sheet


def test_every_command_and_option_is_in_the_reference(site):
    text = text_of(site, "reference/commands.html")
    for name, command in typer.main.get_command(app).commands.items():
        section = re.search(rf"^nas {name}¶$(.*?)(?=^nas \w+¶$|\Z)", text, re.DOTALL | re.MULTILINE)
        assert section, name
        for parameter in command.params:
            options = [o for o in parameter.opts if o.startswith("--") and o != "--help"]
            assert all(option in section.group(1) for option in options), (name, options)


def test_every_key_is_in_the_reference_with_a_description():
    parts = [("", ExperimentConfig), *sections(ExperimentConfig), ("", ComparisonConfig), ("recipe", TrainingConfig)]
    for name, section in parts:
        missing = set(section.model_fields) - set(descriptions(section))
        assert not missing, f"{section.__name__} ({name}): say under Attributes: what {sorted(missing)} are"


def test_every_component_and_option_is_in_the_reference(site):
    text = text_of(site, "reference/configuration.html")
    for registry in (spaces, strategies, models, datasets, tasks):
        for name in registry.names():
            found = re.findall(rf"^{name}¶$(.*?)(?=¶$|\Z)", text, re.DOTALL | re.MULTILINE)
            assert found, name
            parameters = inspect.signature(registry.get(name)).parameters.values()
            options = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
            lines = [section.splitlines() for section in found]  # text is a data set and a task
            assert any(set(options) <= set(section) for section in lines), name


def test_the_python_reference_has_what_users_import(site):
    text = (site / "reference/api.html").read_text()
    wanted = ["nas.Activation", "nas.Study", "nas.load", "nas.replace_activations", "nas.to_onnx"]
    callables = [name for name in modules.__all__ if callable(getattr(modules, name))]
    states = {"ActFactory", "FunctionCall", "InfiniState", "KVCache", "LMState", "Memory", "Mixer", "NormFactory"}
    states |= {"NoScaling", "Replacement", "RopeScaling", "SinkCache", "EluPlusOne"}  # types of arguments and answers
    wanted += [f"nas.modules.{name}" for name in sorted(set(callables) - states)]
    missing = [
        name for name in wanted if f'id="{name}"' not in text and f'id="{name.replace("modules.", "")}"' not in text
    ]
    assert not missing
    assert ":class:" not in text


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda page: page.stem)
def test_links_lead_somewhere_in_the_repository_too(page):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        path = (page.parent / target).resolve()
        made = path.is_relative_to(ROOT / "docs") and str(path.relative_to(ROOT / "docs")) in GENERATED
        assert "://" in target or path.exists() or made, target


def test_the_first_page_runs(tmp_path):
    (block,) = (block.text for block in blocks(ROOT / "docs" / "index.md") if block.language == "python")
    done = subprocess.run([sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "1 x ReLU() -> Activation(x * sigmoid(beta * x))" in done.stdout
