"""``nas confirm``, ``nas leaderboard`` and ``nas check`` as a user meets them."""

from __future__ import annotations

import fcntl
import json
import shutil
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from analysis.study import Study
from nas.cli import main
from tests.made_reports import made_study
from tests.made_studies import study
from tests.nas.test_cli import nas

QUICK = ["search.trials=4", "trial.epochs=2", "pruning=null", "retrain={top: 1, seeds: 1}", "model.width=4"]


@pytest.fixture
def said(monkeypatch, capsys) -> Callable[..., tuple[int, str, str]]:
    """A command in this process, which has torch imported already: exit code, what it printed, what it complained."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["nas", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        code = ended.value.code
        return code if isinstance(code, int) else 0, printed.out, " ".join(printed.err.replace("│", " ").split())

    return call


@pytest.fixture(scope="module")
def confirmed(tmp_path_factory) -> tuple[Path, str]:
    """A small study, really confirmed at home and in another setting; what that printed."""
    run = tmp_path_factory.mktemp("reading") / "study"
    made = nas("search", "digits", *QUICK, "baselines=[ReLU, SiLU]", "executor=inline", "--run", str(run))
    assert made.returncode == 0, made.stderr
    done = nas(
        "confirm", str(run), "--top", "1", "--seeds", "2", "--also", "digits name=wide model.width=6 trial.epochs=1"
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return run, done.stdout


def test_confirm_prints_both_settings(confirmed):
    run, printed = confirmed
    assert "12 complete" in printed
    home, other = printed.split("\nwide (vs ReLU: points of accuracy)\n")
    for part in (home, other):
        assert part.count("confirmed") >= 3
        assert "max(x, 0)  = ReLU" in part
    with Study(run) as read:
        rows = read.trials[read.trials["stage"] == "confirm"]
        for where, setting in (("", None), (" in wide", "wide")):
            board = read.leaderboard(setting=setting)
            shown = board[(board["stage"] == "confirm") & (board["vs_relu_holm"] < 0.05) & (board["vs_relu"] > 0)]
            better = ", ".join(shown["formula"]) or "no function"
            assert f"\nBetter than ReLU{where}, beyond chance: {better}.\n" in printed
    assert printed.endswith(f"As files for your own models: nas export {run}\n")
    assert len(rows) == 12
    assert rows["test_accuracy"].between(0.2, 1).all()
    assert rows["val_accuracy"].isna().all()


def test_confirm_again_trains_nothing_and_check_finds_it_whole(confirmed):
    run, _ = confirmed
    before = (run / "study.db").stat().st_size
    assert nas("confirm", str(run), "--top", "1", "--seeds", "2").returncode == 0
    with Study(run) as read:
        assert len(read.trials[read.trials["stage"] == "confirm"]) == 12
    assert (run / "study.db").stat().st_size == before
    checked = nas("check", str(run))
    assert checked.returncode == 0, checked.stdout
    assert "; whole" in checked.stdout


def test_leaderboard_of_another_setting(confirmed, said):
    run, _ = confirmed
    rows = json.loads(said("leaderboard", str(run), "--setting", "wide", "-f", "json")[1])
    assert {row["stage"] for row in rows} == {"confirm"}
    assert {row["metric"] for row in rows} == {"test_accuracy"}
    code, _, complaint = said("leaderboard", str(run), "--setting", "wider")
    assert (code, "did you mean 'wide'" in complaint) == (2, True)


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("two")
    study(folder / "one", "search.trials=20", "baselines=[ReLU, SiLU]")
    study(folder / "two", "search.trials=20", "baselines=[ReLU, SiLU]", "seed=5")
    return folder / "one", folder / "two"


def test_several_studies_side_by_side(two, said):
    rows = json.loads(said("leaderboard", *map(str, two), "-f", "json", "-n", "100")[1])
    assert {row["run"] for row in rows} == {"one", "two"}
    values = [row["value"] for row in rows if row["stage"] == "retrain"]
    assert values == sorted(values, reverse=True)
    text = said("leaderboard", *map(str, two), "-n", "100")[1]
    assert "run" in text.splitlines()[0].split()


def test_filters_on_the_command_line(two, said):
    command = ("leaderboard", str(two[0]), "-f", "json", "-n", "100")
    rows = json.loads(said(*command)[1])
    simple = json.loads(said(*command, "--max-complexity", "3")[1])
    assert simple == [row for row in rows if row["complexity"] <= 3]
    front = json.loads(said(*command, "--pareto", "complexity")[1])
    sizes = [row["complexity"] for row in front]
    assert sizes == sorted(set(sizes), reverse=True)
    assert said("leaderboard", str(two[0]), "--family", "no such function")[0] == 1


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_trials_are_written_to_a_file(two, tmp_path, said, suffix):
    path = tmp_path / f"trials.{suffix}"
    assert said("leaderboard", *map(str, two), "--trials", "--out", str(path))[0] == 0
    written = pd.read_csv(path) if suffix == "csv" else pd.read_parquet(path)
    with Study(two[0]) as one, Study(two[1]) as other:
        assert len(written) == len(one.trials) + len(other.trials)
    assert set(written["run"]) == {"one", "two"}


def test_recovering_a_damaged_study(two, tmp_path, said):
    run = shutil.copytree(two[0], tmp_path / "run")
    with sqlite3.connect(run / "study.db") as db:
        db.execute("UPDATE trials SET result = '{' WHERE id = 4")
    db.close()
    code, out, complaint = said("leaderboard", str(run))
    assert (code, out) == (2, "")
    assert "nas check" in complaint
    code, out, _ = said("check", str(run), "--recover", str(tmp_path / "new"))
    assert code == 0
    assert "1 could not be: 4" in out
    assert said("leaderboard", str(tmp_path / "new"))[0] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["confirm", "{empty}"], "is not a study's directory"),
        (["confirm", "{run}", "--top", "0"], "Invalid value for '--top'"),
        (["confirm", "{run}", "--also", "digitz"], "did you mean 'digits'"),
        (["confirm", "{run}", "--also", "digits model.width=0"], "width"),
        (["confirm", "{run}", "--address", "127.0.0.1"], "an address is"),
        (["leaderboard", "{run}", "--trials"], "give --out FILE too"),
        (["leaderboard", "{run}", "--out", "{empty}/a.xlsx"], "written as .csv, .json or .parquet"),
        (["leaderboard", "{run}", "--out", "{empty}/no/a.csv"], "cannot be written"),
        (["leaderboard", "{run}", "{empty}"], "is not a study's directory"),
        (["leaderboard", "{run}/study.db"], "give its directory: {run}"),
        (["check", "{empty}", "--recover", "{empty}/new"], "is not a study's directory"),
        (["check", "{run}", "--recover", "{run}"], "exists; choose another directory"),
    ],
)
def test_bad_input_is_a_sentence_and_exit_code_2(two, tmp_path, said, arguments, words):
    code, _, complaint = said(*(argument.format(run=two[0], empty=tmp_path) for argument in arguments))
    assert code == 2
    assert words.format(run=two[0]) in complaint


def test_where_no_row_is_left_it_is_said(two, said):
    run = str(two[0])
    for arguments, why in (
        (
            ["--family", "swich"],
            "no function is of the family 'swich', nor has that in its formula or name; did you mean",
        ),
        (["--max-complexity", "1"], "no function is like that"),
        (["--pareto", "cost"], "costs were not measured in this study; a search with search.cost=time measures them"),
        (["--max-cost", "2"], "costs were not measured in this study; a search with search.cost=time measures them"),
    ):
        code, out, complaint = said("leaderboard", run, *arguments)
        assert (code, out, complaint[: len(why)]) == (1, "", why)


def test_a_training_that_has_not_ended_is_interrupted_unless_somebody_works_at_it(tmp_path, said):
    made_study(tmp_path, [("tanh(x)", "search", 0, 0.9, "COMPLETE"), ("sin(x)", "search", 0, None, "RUNNING")]).close()
    assert "interrupted" in said("leaderboard", str(tmp_path))[1]
    with open(tmp_path / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        printed = said("leaderboard", str(tmp_path))[1]
    assert "running" in printed
    assert "interrupted" not in printed
    assert json.loads(said("leaderboard", str(tmp_path), "-f", "json")[1])[1]["state"] == "RUNNING"


def test_of_several_studies_that_one_is_interrupted_which_nobody_works_at(tmp_path, said):
    rows = [("sin(x)", "search", 0, None, "RUNNING")]
    for name in ("left", "live"):
        made_study(tmp_path / name, rows).close()
    with open(tmp_path / "live" / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lines = said("leaderboard", str(tmp_path / "left"), str(tmp_path / "live"))[1].splitlines()
    ends = {line.split()[1]: line.split()[-1] for line in lines if "sin(x)" in line}
    assert ends == {"left": "interrupted", "live": "running"}


def test_resume_says_that_a_confirmation_was_interrupted(confirmed, tmp_path, said):
    run = tmp_path / "copy"
    shutil.copytree(confirmed[0], run)
    with sqlite3.connect(run / "study.db") as database:
        last = "select max(id) from trials where stage = 'confirm'"
        database.execute(f"update trials set state = 'RUNNING', result = null, finished = null where id = ({last})")
    code, printed, complaint = said("resume", str(run))
    assert (code, complaint) == (0, "")
    assert printed.startswith("The search is finished; its confirmation was interrupted: give that nas confirm command")
    assert "1 INTERRUPTED; whole" in said("check", str(run))[1]
