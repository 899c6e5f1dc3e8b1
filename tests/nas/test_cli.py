"""The command line as a user meets it: what it prints and how it exits. Mostly real processes."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from analysis.store import Store
from nas.cli import app, main
from search_spaces.equivalence import EquivalenceIndex
from search_spaces.parser import parse
from tests.made_tables import TINY

WRITTEN = "keys of a configuration are written KEY=VALUE"
QUICK = ["search.trials=6", "trial.epochs=3", "pruning.rungs=[1]", "retrain.top=2", "retrain.seeds=2", "model.width=4"]


def nas(*arguments: str, cwd: Path | None = None, **extra: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "nas", *arguments],
        cwd=cwd,
        env={**os.environ, "NO_COLOR": "1", **extra},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A small finished study."""
    path = tmp_path_factory.mktemp("cli") / "study"
    result = nas("search", "digits", *QUICK, "executor=inline", "--run", str(path))
    assert result.returncode == 0, result.stderr
    assert "Exported winner" in result.stdout
    assert "max(x, 0)  = ReLU  baseline" in result.stdout
    assert "\x1b" not in result.stdout  # plain lines when the output is no terminal
    assert result.stderr == ""
    return path


def test_a_search_leaves_an_export(run):
    exported = list((run / "export").glob("*.py"))
    assert len(exported) == 1
    assert exported[0].with_suffix(".json").is_file()
    assert (run / "config.yaml").is_file()


def test_gradient_trains_a_relaxation_and_then_what_it_favours(tmp_path):
    chosen = {**TINY, "strategy": {"name": "gradient", "epochs": 2}, "search": {"trials": 2}, "retrain": {"top": 0}}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(chosen))
    result = nas("search", "tiny.yaml", "--run", "run", cwd=tmp_path)  # after two steps there may be nothing that works
    with Store.open(tmp_path / "run") as store:
        relaxed, *functions = store.records()
    assert [record.trial.stage for record in (relaxed, *functions)] == ["relax", "search", "search"]
    assert [len(row) for row in relaxed.result.weights] == [4, 4, 3]
    assert [sum(row) for row in relaxed.result.weights] == pytest.approx([1, 1, 1], abs=1e-4)
    assert "relaxed" not in result.stdout  # it is on no leaderboard


def test_a_relaxed_network_that_fails_does_not_go_unnoticed(tmp_path):
    """Its only binary operator is not finite at 0; the search goes on in random order."""
    space = "space={name: custom, shapes: ['b(u(x), u(x))'], unary: [x, tanh, exp, cosh], binary: [div]}"
    small = ["search.trials=1", "trial={epochs: 1, max_steps: 2}", "pruning=null", "retrain.top=0", "baselines=[ReLU]"]
    result = nas(
        "search", "digits", space, "strategy=gradient", *small, "executor=inline", "--run", str(tmp_path / "r")
    )
    failures = [line for line in result.stdout.splitlines() if line.startswith("A relaxed network failed: ")]
    assert len(failures) == 2
    assert all("has no operator that stays finite" in line for line in failures)


def test_leaderboard_formats_agree(run):
    rows = json.loads(nas("leaderboard", str(run), "--format", "json", "--top", "50").stdout)
    assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
    assert {row["name"] for row in rows} >= {"ReLU", "SiLU", "GELU", "ELU", "tanh"}
    assert all(row["n_seeds"] == 2 for row in rows[:5])
    table = list(csv.DictReader(io.StringIO(nas("leaderboard", str(run), "-f", "csv", "-n", "50").stdout)))
    assert [row["formula"] for row in table] == [row["formula"] for row in rows]
    assert float(table[0]["val_accuracy"]) == rows[0]["val_accuracy"]
    text = nas("leaderboard", str(run), "-n", "50").stdout
    assert all(row["formula"] in text for row in rows)
    assert len(json.loads(nas("leaderboard", str(run), "-f", "json", "-n", "3").stdout)) == 3


def test_leaderboard_orders(run):
    losses = [r["val_loss"] for r in json.loads(nas("leaderboard", str(run), "-s", "val_loss", "-f", "json").stdout)]
    known = [loss for loss in losses if loss is not None]
    assert known == sorted(known)


def test_export(run, tmp_path):
    result = nas("export", str(run), "--top", "2", "--out", str(tmp_path / "out"))
    paths = [Path(line) for line in result.stdout.split()]
    assert all(path.is_file() and path.with_suffix(".json").is_file() for path in paths)
    assert 1 <= len(paths) <= 2


def test_resume_of_a_finished_study_trains_nothing(run):
    before = (run / "study.db").read_bytes()
    result = nas("resume", str(run))
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[0] == "This study is finished; nothing was left to do."
    assert result.stdout.splitlines()[1].split()[:2] == ["#", "formula"]
    assert "Exported winner" in result.stdout
    with Store.open(run) as store:
        assert f"{store.get('proposals')['filtered']} set aside untrained (affine, or not fin" in result.stdout
    assert (run / "study.db").read_bytes() == before


def test_a_finished_study_is_resumed_without_ray(run, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "nas.cluster.run", None)  # an import of it fails
    monkeypatch.setattr(sys, "argv", ["nas", "resume", str(run), "executor=ray"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    assert capsys.readouterr().out.startswith("This study is finished; nothing was left to do.\n")


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        (["search", "digit"], ["did you mean 'digits'"]),
        (
            ["search", "digits", "serch.trials=1", "model.name=resnet9"],
            ["did you mean 'search'", "did you mean 'resnet8'"],
        ),
        (
            ["search", "digits", "strategy.name=annealing"],
            ["unknown strategy 'annealing'; known: evolution, exhaustive, gradient, nsga2"],
        ),
        (
            ["search", "cifar10_resnet20", "data.root=nowhere"],
            ["nowhere' cannot be read (No such file", "data.download=true to fetch it"],
        ),
        (["search", "digits", "trial.device=cuda"], ["cuda"]),
        (["search", "digits", "--run", "{run}"], ["belongs to a study with another configuration"]),
        (["search", "digits", "--run", "{full}"], ["exists and is not empty"]),
        (["search", "digits", "--run", "{file}"], ["cannot be written"]),
        (["leaderboard", "{full}"], ["is not a study's directory"]),
        (["leaderboard", "nowhere"], ["nowhere is not a study's directory: it does not exist in /"]),
        (["leaderboard", "{run}y"], ["y is not a study's directory: it does not exist; did you mean /"]),
        (["leaderboard", "{run}/.."], ["is not a study's directory: there is no study.db in it; it holds studies: "]),
        (["search", "digits", "--trials", "5"], [f"no such option: --trials; {WRITTEN}: search.trials=5"]),
        (["search", "digits", "--batch-size=5"], [f"{WRITTEN}: recipe.batch_size=5"]),
        (["search", "digits", "run=runs/x"], ["run is an option, not a key: --run runs/x"]),
        (["search", "digits", "--width", "8"], [f"no such option: --width; {WRITTEN}: model.width=8"]),
        (["search", "digits", "--model.width=8"], [f"no such option: --model.width; {WRITTEN}: model.width=8"]),
        (["search", "digits", "width=8"], ["unknown key 'width'; did you mean 'model.width'?"]),
        (["search", "digits", "--trial.epochs", "5"], [f"{WRITTEN}: trial.epochs=5"]),
        (["search", "digits", "--rum", "5"], ["No such option: --rum (Possible options: --run)"]),
        (["eval", "x * tanh(x)", "--epochs", "5", "digits"], [f"no such option: --epochs; {WRITTEN}: trial.epochs=5"]),
        (["compare", "passkey", "--steps", "5"], [f"no such option: --steps; {WRITTEN}: steps=5"]),
        (
            ["eval", "digits", "x * tanh(x)"],
            ["digits is a configuration, which comes second: nas eval FUNCTION digits"],
        ),
        (["resume", "nowhere"], ["is not a study's directory"]),
        (["export", "nowhere"], ["is not a study's directory"]),
        (["export", "{run}", "--out", "{file}"], ["cannot be written"]),
        (["leaderboard", "{run}", "--sort", "luck"], ["'luck' is not one of"]),
        (["leaderboard", "{run}", "--top", "0"], ["Invalid value for '--top'"]),
        (["serach"], ["No such command"]),
        (["space", "thre_node"], ["did you mean 'three_node'"]),
        (["space", "tree", "max_params=7", "max_node=3"], ["did you mean 'max_nodes'", "less than or equal to 3"]),
        (["space", "grafs", "--enumerate", "out.txt"], ["enumerated up to 5,000,000 spellings"]),
        (["space", "three_node", "--enumerate", "{full}"], ["cannot be written"]),
        (["space", "three_node", "--trainable"], ["give both"]),
        (["space", "{file}"], ["a mapping of keys to values"]),
        (["show", "x $ 2"], ["unexpected character '$'", "^"]),
        (["show", "x1 * x2"], ["only input is x"]),
        (["show", "{run}:999"], ["has ranks 1 to"]),
        (["show", "nowhere:1"], ["is not a study's directory"]),
        (["show", "mish", "--plot", "x.gif"], ["a plot ends in .png, .svg, .pdf"]),
        (["show", "mish", "--plot", "{full}/no/x.png"], ["cannot be written"]),
    ],
)
def test_bad_input_is_a_sentence_and_exit_code_2(run, tmp_path, monkeypatch, capsys, arguments, messages):
    """In this process, which has torch imported already: there are many cases."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("precious")
    (tmp_path / "file").write_text("")
    places = {"run": str(run), "full": str(tmp_path / "full"), "file": str(tmp_path / "file")}
    if arguments[1:] == ["digits", "trial.device=cuda"]:
        import torch

        if torch.cuda.is_available():
            pytest.skip("there is a GPU")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["nas", *(a.format(**places) for a in arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    said = " ".join(printed.err.replace("│", " ").split())  # typer draws a box and wraps
    for message in messages:
        assert message in said
    assert sorted(tmp_path.rglob("*")) == before  # no half-made run directory


def test_the_same_study_again_says_resume(run):
    config = str(run / "config.yaml")
    result = nas("search", config, "--run", str(run))
    assert result.returncode == 2
    assert result.stderr == f"error: {run} already holds this study; continue it with: nas resume {run}\n"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_run_directory(run, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    copy.chmod(0o500)
    assert "not writable" in nas("resume", str(copy)).stderr


def test_a_study_that_is_in_use_is_refused(run):
    import fcntl

    with open(run / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = nas("resume", str(run))
    assert result.returncode == 2
    assert "in use by another process" in result.stderr


def test_a_search_in_which_nothing_works_says_why(tmp_path):
    quick = ["search.trials=3", "retrain.top=1", "retrain.seeds=1", "baselines=[]", "trial.max_seconds=0.000001"]
    result = nas("search", "digits", *quick, "executor=inline", "--run", str(tmp_path / "r"))
    assert result.returncode == 1
    assert "out of time in epoch 1" in result.stdout
    assert "Traceback" not in result.stderr


def test_space_counts_describes_and_writes(tmp_path):
    out = tmp_path / "functions.txt"
    result = nas("space", "three_node", "--enumerate", str(out), "--trainable")
    assert result.returncode == 0, result.stderr
    for text in ("5,103", "2,791", "2,414", "2,401", "27 unary", "b(u(x), u(x))"):
        assert text in result.stdout
    lines = out.read_text().splitlines()
    assert len(lines) == len(set(lines)) == 2_401
    index = EquivalenceIndex()
    assert len({index.add(parse(line)) for line in lines[::20]}) == len(lines[::20])
    assert "2,401 functions written" in result.stderr


def test_a_space_of_ones_own_in_yaml(tmp_path):
    path = tmp_path / "gates.yaml"
    path.write_text("name: custom\nshapes: ['b(u(x), x)']\nunary: [tanh, 'sigmoid(beta * x)']\nbinary: [mul, add]\n")
    facts = json.loads(nas("space", str(path), "--json").stdout)
    assert (facts["spellings"], facts["functions"], facts["trainable"]) == (4, 4, 4)
    assert facts["unary"] == ["tanh(x)", "sigmoid(beta * x)"]
    coarse = json.loads(nas("space", "three_node", "ready_made=false", "--json", "--equivalence", "affine").stdout)
    assert coarse["spellings"] == 2_527
    assert coarse["functions"] < 1_300
    assert "39,062,500" in nas("space", "grafs").stdout


def test_show_a_formula_a_name_and_a_rank(run, tmp_path):
    picture = tmp_path / "silu.svg"
    text = nas("show", "sigmoid(x) * x", "--plot", str(picture)).stdout
    for part in (
        "= SiLU",
        "minimum -0.2785 at x = -1.278",
        "Swish family",
        "x ReLU in eager torch",
        r"\frac{x}{1 + e^{- x}}",
    ):
        assert part in text
    assert "x * sigmoid(x)" in picture.read_text()
    assert "= Mish" in CliRunner().invoke(app, ["show", "mish"]).stdout
    rows = json.loads(CliRunner().invoke(app, ["leaderboard", str(run), "-f", "json"]).stdout)
    assert rows[0]["formula"] in CliRunner().invoke(app, ["show", f"{run}:1"]).stdout


def test_help_and_version_are_light():
    """No torch, ray or pandas for --help; importing nas brings none of them either."""
    heavy = "('torch', 'ray', 'pandas', 'sympy', 'optuna')"
    probe = f"import sys, nas, nas.cli; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr
    text = nas("--help").stdout
    assert "leaderboard" in text
    assert text.strip().splitlines()[-1].strip() == "Begin with: nas search digits"
    assert "<bool>" not in text
    assert nas("--version").stdout.startswith("nas ")


def test_flags_take_nothing_and_options_what_they_take():
    text = nas("confirm", "--help").stdout + nas("leaderboard", "--help").stdout
    assert [line.split()[1:3] for line in text.splitlines() if "--confirmed" in line] == [["--confirmed", "Only"]]
    assert "<bool>" not in text
    assert "<int range>" in text or "INTEGER" in text


def test_show_takes_a_formula_that_begins_with_a_minus():
    shown = nas("show", "-x * sigmoid(x)")
    assert "= -SiLU(x)" in shown.stdout, shown.stderr
    assert nas("show", "-x * sigmoid(x)", "--plotted", "f.png").returncode == 2
