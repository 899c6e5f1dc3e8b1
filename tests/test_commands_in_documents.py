"""Every command in the documents can be typed: it is run, or all of it but the training is.

Commands that only read are run on a made study. Those that would train are parsed, and their configuration is loaded
with all that they change. What is neither is in ``NOT_CHECKED``, with the reason. The tutorial is run as a whole by
tests/test_tutorial.py, the files of the guides by tests/test_guides.py.
"""

from __future__ import annotations

import importlib.util
import re
import runpy
import shlex
import shutil
from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner

from nas.bench import Bench
from nas.cli import app
from nas.comparison import load_comparison
from nas.config import ExperimentConfig, elsewhere, load_config
from nas.confirm import find_settings
from nas.evaluation import evaluation_config
from nas.spaces import load_space
from nas.yaml_config import ConfigError
from tests.documents import PAGES, ROOT, blocks, commands, files, spans
from tests.made_studies import settings, study

GROUP = typer.main.get_command(app)
NOT_CHECKED = {
    "pip": "installs from the network",
    "ssh": "needs another machine",
    "ray": "tests/nas/cluster starts clusters by its own means",
    "source": "of the shell",
    "export": "of the shell",
    "mlflow": "another program, not installed for tests",
    "wandb": "another program, not installed for tests",
    "optuna-dashboard": "another program, not installed for tests",
}
OF_GUIDES = ("mlp", "npz", "hill_climbing", "ndtr", "run.py")
"""Names that exist where a guide's file has been put in its place."""
OF_THE_READER = {"own.py": "tests/test_tutorial.py", "exports/": "tests/nas/test_exported.py"}
"""Files of the reader's, and which test runs them."""
RUN = {"show", "zoo", "leaderboard", "report", "export", "check", "optuna"}
REFUSED = ("nas search digits serch.trials=3 model.name=resnet9",)
"""What the documents show to be refused, with its sentences."""
STUDIES = ("runs/first", "runs/mine", "runs/NAME", "runs/NAME-DATE", "runs/digits-20260101-120000", "RUN", "other")
FOUND = sorted({(command, str(page.relative_to(ROOT))) for page in PAGES for command in commands(page)})
COMMANDS = dict(FOUND)


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A directory with what the commands name: studies, tables, files of the guides."""
    place = tmp_path_factory.mktemp("desk")
    (place / "runs").mkdir()
    study(place / "made")
    for name in STUDIES:
        shutil.copytree(place / "made", place / name)
    for page in PAGES:
        for name, text in files(page).items():
            (place / name).write_text(text)
    shutil.copy(ROOT / "configs" / "digits.yaml", place / "my_experiment.yaml")
    for name in ("tables", "docs"):
        (place / name).symlink_to(ROOT / name)
    return place


@pytest.fixture(autouse=True)
def at_the_desk(desk, monkeypatch):
    monkeypatch.chdir(desk)
    monkeypatch.setenv("COLUMNS", "200")


def parsed(words: list[str]) -> dict:
    """What typer makes of ``nas WORDS``. It raises for what does not exist."""
    name, *rest = words
    assert name in GROUP.commands, f"there is no command nas {name}"
    return GROUP.commands[name].make_context(name, rest).params


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("nas ")])
def test_a_command_of_ours(command):
    words = shlex.split(command)[1:]
    if command in REFUSED:
        with pytest.raises(ConfigError) as refused:
            LOADS[words[0]](parsed(words))
        said = [
            line.split(": ", 2)[2] for line in (ROOT / COMMANDS[command]).read_text().splitlines() if "error: " in line
        ]
        assert refused.value.faults == said
    elif words[0].startswith("--"):
        assert_runs(words)
    elif any(name in command for name in OF_GUIDES):
        parsed(words)
    elif words[0] in RUN:
        assert_runs(words)
    else:
        LOADS[words[0]](parsed(words))


def assert_runs(words: list[str]) -> None:
    for option in ("--out", "-o"):  # it may have been written by another page's command
        if option in words and (target := Path(words[words.index(option) + 1])).is_file():
            target.unlink()
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, (done.output, done.exception)


def made() -> ExperimentConfig:
    return settings()


LOADS = {
    "search": lambda p: load_config(p["config"], p["overrides"]),
    "doctor": lambda p: p["config"] and load_config(p["config"], p["overrides"]),
    "submit": lambda p: p["resume"] or load_config(p["config"], p["overrides"]),
    "eval": lambda p: evaluation_config(
        [p["function"], *(p["more"] or [])], p["config"], p["overrides"] or [], p["seeds"], p["baselines"]
    ),
    "resume": lambda p: elsewhere(made(), p["overrides"] or []),
    "confirm": lambda p: find_settings(made(), p["also"] or []),
    "table": lambda p: Path(p["source"]).is_dir() or load_config(p["source"], p["overrides"]),
    "bench": lambda p: Bench.open(folder_of(p["folder"]), p["strategy"] or [], p["objective"], 1, 10),
    "space": lambda p: load_space(p["name"], p["overrides"] or []),
    "compare": lambda p: load_comparison(p["config"], p["overrides"]),
    "dashboard": lambda p: None,  # they ask a server, or are one
    "status": lambda p: None,
    "stop": lambda p: None,
}


def folder_of(table: Path) -> Path:
    return ROOT / "tables" / "three_node_digits" if table.name == "my_experiment" else table


@pytest.mark.parametrize("command", [c for c in COMMANDS if not c.startswith("nas ")])
def test_a_command_of_others(command):
    words = shlex.split(command)
    if words[0] in NOT_CHECKED:
        return
    if words[0] == "make":
        targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert all(word in targets or "=" in word for word in words[1:])
    elif words[:2] == ["python", "-m"]:
        assert importlib.util.find_spec(words[2]), f"there is no module {words[2]}"
        assert all(Path(ROOT / word).exists() for word in words[3:] if word.startswith("tests/"))
    elif words[0] == "python" and words[1] == "run.py":
        parsed(words[2:])
    elif words[0] == "python" and not words[1].startswith(tuple(OF_THE_READER)):
        source = (ROOT / words[1]).read_text()
        assert all(f'"{word}"' in source for word in words[2:] if word.startswith("--"))
    else:
        assert words[0] == "python", f"{COMMANDS[command]}: nothing checks this; extend this test, or NOT_CHECKED"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_within_lines_exist_with_their_options(page):
    for span in spans(page):
        name = re.match(r"(?:\$ )?nas ([a-z]+)", span)
        if name:
            assert name.group(1) in GROUP.commands, span
            known = {"--help"}.union(*(p.opts + p.secondary_opts for p in GROUP.commands[name.group(1)].params))
            assert set(re.findall(r"(?<![\w-])--[a-z][\w-]*", span)) <= known, span


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_keys_within_lines_exist(page):
    components = {"space", "strategy", "model", "data"}
    sections = {
        name: field.annotation for name, field in ExperimentConfig.model_fields.items() if name not in components
    }
    for span in spans(page):
        found = re.match(r"([a-z_]+)\.([a-z_]+)(?:=|:|$)", span)
        if found and found.group(1) in sections and not span.endswith((".py", ".yaml")):
            text = str(sections[found.group(1)])
            section = next((s for s in _sections() if s.__name__ in text), None)
            assert section is None or found.group(2) in section.model_fields, span


def _sections():
    from nas import sections

    return [value for value in vars(sections).values() if isinstance(value, type) and value.__name__.endswith("Config")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_configurations_in_the_documents_are_taken(page):
    for name, text in files(page).items():
        if name.endswith(".yaml"):
            values = yaml.safe_load(text)
            assert load_config(name) if "model" in values else load_space(name, [])


STUDY_BLOCKS = [
    pytest.param(block.text, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, block in enumerate(blocks(page))
    if "nas.Study(" in block.text or "from nas import Study" in block.text
]


@pytest.mark.parametrize("block", STUDY_BLOCKS)
def test_python_that_reads_a_study_runs(block, monkeypatch):
    monkeypatch.setattr("plotly.graph_objects.Figure.show", lambda figure: figure.to_json())  # opens a browser
    wanted = block.replace('setting="cifar10_resnet20"', "setting=None")  # none was confirmed at the desk
    Path("reads.py").write_text(wanted)
    runpy.run_path("reads.py")
