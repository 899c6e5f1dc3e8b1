"""``nas eval``: given functions, trained as a search would retrain them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

from analysis.store import Store
from analysis.study import Study
from nas.check import check_run
from nas.cli import app
from nas.confirm import find_entrants
from nas.evaluation import EvaluationError, evaluation_config, would_be_screened
from nas.runs import Run
from nas.search import Search
from nas.strategies import EXHAUSTED
from nas.yaml_config import ConfigError
from search_spaces.parser import ParseError
from tests.nas.test_search import drive
from tests.processes import records
from trainers.run import run_trial
from trainers.trial import Component, Recipe, Trial

TINY = ["model.width=4", "trial.epochs=2", "baselines=[ReLU, SiLU]", "executor=inline"]
OWN = "x * sigmoid(1.5 * x)"


def nas(*arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "nas", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)


def evaluation(*functions: str, seeds: int = 2, baselines: bool = True, overrides=TINY):
    return evaluation_config(functions, "digits", overrides, seeds, baselines)


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> tuple[Path, str]:
    """An evaluation as it is typed, and what it printed."""
    folder = tmp_path_factory.mktemp("eval")
    done = nas("eval", OWN, "digits", *TINY, "--and", "-x*erfc(x)", "--seeds", "2", "--run", "run", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return folder / "run", done.stdout


def test_results_are_those_of_the_same_trainings_by_hand(study):
    config = evaluation(OWN)
    of_it = [record for record in records(study[0]) if record.trial.expression == OWN]
    assert [record.trial.seed for record in of_it] == [1, 2]  # a search has seed 0
    for record in of_it:
        by_hand = Trial(
            id=1,
            stage="retrain",
            expression=OWN,
            seed=record.trial.seed,
            model=Component("resnet8", {"width": 4}),
            data=Component("digits", {}),
            recipe=Recipe(**config.recipe.model_dump()),
            budget_epochs=2,
            precision=record.trial.precision,
        )
        assert record.result.metrics == run_trial(by_hand, lambda result: False).metrics
        assert record.result.metrics["epoch"] == 2


def test_a_search_retrains_with_the_same_trials(study, tmp_path):
    """All that a training depends on, with the seeds, for functions that both have."""
    rest = [text for text in TINY if not text.startswith("baselines")]
    small = ["search.trials=1", "pruning=null", "strategy=random", "retrain={top: 0, seeds: 2}", "baselines=[SiLU]"]
    done = nas("search", "digits", *rest, *small, "--run", "run", cwd=tmp_path)
    assert done.returncode in (0, 1), done.stderr  # its one candidate may be one that fails

    def silu(run: Path):
        chosen = [r for r in records(run) if r.known_name == "SiLU" and r.trial.stage == "retrain"]
        return [({**vars(r.trial), "id": None}, r.result.metrics) for r in chosen]

    assert len(silu(study[0])) == 2
    assert silu(study[0]) == silu(tmp_path / "run")


def test_the_leaderboard_compares_it_with_relu(study):
    run, printed = study
    with Study(run) as read:
        rows, trials = read.leaderboard().set_index("formula"), read.trials
    accuracy = trials.pivot_table(index="expression", columns="seed", values="val_accuracy")
    differences = (accuracy.loc[OWN] - accuracy.loc["max(x, 0)"]).to_numpy()
    row = rows.loc[OWN]
    assert row["vs_relu"] == pytest.approx(differences.mean())
    half_width = stats.t.ppf(0.975, 1) * differences.std(ddof=1) / np.sqrt(2)
    assert row["vs_relu_ci95"] == pytest.approx(half_width) or differences.std() < 1e-12
    assert row["found"]
    assert rows["found"].to_dict() == {OWN: True, "-x * erfc(x)": True, "max(x, 0)": False, "x * sigmoid(x)": False}
    assert set(rows["stage"]) == {"retrain"}
    assert "digits: 2 functions and 2 baselines, resnet8 on digits" in printed
    assert f"{OWN}  = Swish(beta=1.5)" in printed
    assert "max(x, 0)  = ReLU  baseline" in printed
    assert "vs ReLU: points of accuracy" in printed


def test_it_is_a_study_like_others(study, tmp_path):
    run = study[0]
    assert check_run(run)[0] == []
    shown = nas("leaderboard", str(run), cwd=tmp_path).stdout
    assert OWN in shown
    assert nas("resume", str(run), cwd=tmp_path).stdout.count("retrained") == 4  # nothing is trained again
    assert len(records(run)) == 8
    exported = nas("export", str(run), "--top", "2", cwd=tmp_path)
    assert exported.stdout.count(".py") == 2, exported.stderr
    config = evaluation(OWN)
    with Store.open(run) as store:
        assert OWN in [entrant.formula for entrant in find_entrants(store, config, 1)] + ["-x * erfc(x)"]


def test_a_function_of_a_run_by_its_rank(study):
    with Study(study[0]) as read:
        best = read.leaderboard()["expression"].iloc[0]
    assert evaluation(f"{study[0]}:1").retrain.functions == (best,)


@pytest.mark.parametrize("stop_after", [1, 4])
def test_an_interrupted_one_goes_on(tmp_path, stop_after):
    config = evaluation("x * erf(x)", OWN)
    with Store.create(tmp_path, config.model_dump(mode="json")) as store:
        (running,) = drive(Search(config, store), stop_after)
        search = Search(config, store)
        assert search.next() == running
        assert not search.strangers
        assert not search.done
        drive(Search(config, store))
        rows = [(r.trial.expression, r.trial.seed) for r in store.records()]
    assert rows == [(text, seed) for seed in (1, 2) for text in ("x * erf(x)", OWN, "max(x, 0)", "x * sigmoid(x)")]


def test_a_function_given_twice_or_as_a_baseline_is_trained_once(tmp_path):
    config = evaluation("SiLU", "sigmoid(x) * x", "min(x, 0)")
    with Store.create(tmp_path, config.model_dump(mode="json")) as store:
        search = Search(config, store)
        assert search.remaining_retrainings == 2 * 3
        drive(search)
        assert search.next() is EXHAUSTED
        rows = [r.known_name or r.formula for r in store.records()]
    assert rows == 2 * ["SiLU", "min(x, 0)", "ReLU"]  # ReLU's reflection is no ReLU here
    with Study(tmp_path) as read:
        found = read.leaderboard().set_index("formula")["found"]
    assert found.to_dict() == {"x * sigmoid(x)": True, "min(x, 0)": True, "max(x, 0)": False}


def test_without_baselines_and_with_the_seeds_of_the_configuration():
    config = evaluation(OWN, seeds=None, baselines=False)
    assert config.baselines == ()
    assert config.retrain.seeds == 3


def test_keys_of_the_search_do_not_stand_in_the_way():
    overrides = ["trial.epochs=1", "strategy.kappa=2", "search.minutes=1", "warm_start.functions=SiLU"]
    config = evaluation(OWN, overrides=overrides)
    assert (config.search.trials, config.search.minutes, config.pruning) == (0, None, None)
    assert config.warm_start.functions == ()
    with pytest.raises(ConfigError, match="unknown strategy 'foo'"):
        evaluation(OWN, overrides=["strategy=foo"])


@pytest.mark.parametrize(
    ("function", "error", "words"),
    [
        ("2 * x + 1", EvaluationError, "not trained, neither here nor in a search: it is affine or constant"),
        ("3", EvaluationError, "affine or constant"),
        ("log(x)", EvaluationError, r"not finite on \[-5, 5\]"),
        ("x * y", ParseError, "unknown name 'y'"),
        ("x1 * x2", ParseError, "only input is x"),
        ("", ParseError, "empty|expected|ends"),
    ],
)
def test_what_cannot_be_trained_is_refused(function, error, words):
    with pytest.raises(error, match=words):
        evaluation(OWN, function)


@pytest.mark.parametrize("function", ["2 * x + 1", "x * y"])
def test_what_cannot_be_trained_is_a_sentence(tmp_path, function):
    done = nas("eval", function, "digits", *TINY, "--run", "run", cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_function_that_fails_is_a_row_with_its_reason(tmp_path):
    small = [*TINY, "recipe.learning_rate=10"]
    done = nas("eval", "exp(x) ** 3 * x", "digits", *small, "--no-baselines", "--run", "run", cwd=tmp_path)
    assert done.returncode == 1
    assert "Some trainings failed, the first one: diverged: loss" in done.stdout
    assert done.stderr == ""
    assert {r.result.state for r in records(tmp_path / "run")} == {"FAIL"}


@pytest.mark.parametrize("option", ["--seed", "-n", "--ands"])
def test_an_option_that_is_none_is_said(option):
    done = CliRunner().invoke(app, ["eval", OWN, "digits", option, "3"])
    assert done.exit_code == 2
    assert f"no such option: {option}" in done.stderr


def test_a_search_of_nothing_needs_functions():
    from nas.config import load_config

    with pytest.raises(ConfigError, match=r"search\.trials=0 searches nothing"):
        load_config("digits", ["search.trials=0"])


def test_what_the_screen_says_is_told(tmp_path):
    """A network of 1e-9 * SiLU passes nothing on."""
    config = evaluation("1e-9 * x * sigmoid(x)", OWN)
    with Store.create(tmp_path, {}) as store:
        (warning,) = would_be_screened(Run(tmp_path, config, store))
        assert "A search would not train 1e-09 * x * sigmoid(x) (search.screen): " in warning
        assert "vanishes" in warning
        unscreened = config.model_copy(update={"search": config.search.model_copy(update={"screen": False})})
        assert not list(would_be_screened(Run(tmp_path, unscreened, store)))
