"""What a search knows before it starts: functions to try first, and an earlier study's results.

Trials are not trained here: their outcome is computed from the function and the seed.
"""

from __future__ import annotations

import shutil
import sqlite3
import sys

import numpy as np
import pytest
import yaml

from analysis.leaderboard import leaderboard
from analysis.store import Store, StoreError
from nas.cli import main
from nas.search import RETRAIN, SEARCH, Search
from nas.strategies.random import RandomSearch
from nas.warm_start import Known, warm_start
from nas.yaml_config import ConfigError
from tests.made_studies import of_stage, settings, study, trials
from tests.made_tables import TINY, same, values
from tests.nas.test_search import drive
from tests.records import make_result
from trainers.trial import TrialResult, TrialState


@pytest.mark.parametrize("strategy", ["random", "tpe", "exhaustive"])
def test_functions_to_start_with_are_trained_first_and_told(tmp_path, strategy):
    """By name or formula, those that are equal left out; a known name may be outside of the space."""
    functions = "warm_start.functions=[SiLU, 'sigmoid(x) * x', sin(x), 'max(0, x)']"
    chosen = settings(functions, f"strategy.name={strategy}")
    told = []
    with Store.create(tmp_path, {}) as store:
        search = Search(chosen, store)
        tell = search.proposer.strategy.tell
        search.proposer.strategy.tell = lambda c, r: (told.append((str(c.expression), r.state)), tell(c, r))
        drive(search, workers=1)
        rows = trials(store)
    first = of_stage(rows, SEARCH)
    assert len(first) == 8
    x = np.linspace(-5, 5, 101)
    for text, expected in zip(first, (x / (1 + np.exp(-x)), np.sin(x), np.maximum(x, 0)), strict=False):
        np.testing.assert_allclose(values(text), expected, atol=1e-12)
    functions = [values(text) for text in first]
    assert not any(same(a, b) for i, a in enumerate(functions) for b in functions[:i])  # none of them again later
    kinds = [(text, str(state)) for text, state in told]
    assert sum(text in ("x * sigmoid(x)", "sigmoid(x) * x") for text, _ in kinds) >= 2
    assert "sin(x)" in dict(kinds)


def test_an_earlier_studys_results_are_told_and_not_trained_again(tmp_path):
    before = study(tmp_path / "a", "search.trials=9", "seed=3")
    chosen = settings(f"warm_start.study={tmp_path / 'a'}", "search.trials=6")
    told = []
    with Store.create(tmp_path, {}) as store:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(RandomSearch, "tell", lambda self, c, r: told.append((str(c.expression), r)))
            search = Search(chosen, store)
        known = {text: result for stage, text, _, result in before if stage == SEARCH}
        assert [(entry.expression, entry.result) for entry in warm_start(chosen)] == list(known.items())
        assert told == list(known.items())  # failures too, and not those of the retraining
        drive(search, workers=1)
        rows = trials(store)
    new = of_stage(rows, SEARCH)
    assert len(new) == 6
    assert not any(same(values(a), values(b)) for a in new for b in known)
    results = known | {text: result for stage, text, _, result in rows if stage == SEARCH}
    complete = [text for text, result in results.items() if result.state == TrialState.COMPLETE]
    best = sorted(complete, key=lambda text: -results[text].metrics["val_accuracy"])[:3]
    assert set(of_stage(rows, RETRAIN)) == set(best)
    assert any(text in known for text in best)  # so it is worth a test


@pytest.mark.parametrize("stop_after", [0, 2, 5, 7])
def test_a_resumed_search_does_not_need_the_earlier_study_any_more(tmp_path, stop_after):
    study(tmp_path / "old", "search.trials=9", "seed=3")
    chosen = settings(
        f"warm_start.study={tmp_path / 'old'}", "warm_start.functions=[sin(x), SiLU]", "strategy.name=tpe"
    )
    rows = []
    for name, steps in (("whole", None), ("parts", stop_after)):
        (tmp_path / name).mkdir()
        with Store.create(tmp_path / name, {}) as store:
            drive(Search(chosen, store), steps)
            if name == "parts":
                shutil.rmtree(tmp_path / "old")
                resumed = Search(chosen, store)
                drive(resumed)
                assert resumed.done
            rows.append(trials(store))
    assert rows[0] == rows[1]


@pytest.mark.parametrize("metric", ["val_accuracy", "val_loss"])
def test_the_best_of_an_earlier_study_are_trained_first(tmp_path, metric):
    """Whatever that study was trained with, by its own objective; without failures, and what was pruned."""
    objective = f"search.objective={metric}"
    before = study(tmp_path / "a", "search.trials=12", "recipe.learning_rate=0.3", "retrain.top=0", objective)
    with sqlite3.connect(tmp_path / "a" / "study.db") as db:  # the best one was stopped early
        best = max((r for r in before if r[3].metrics), key=lambda r: r[3].metrics["val_accuracy"])
        pruned = TrialResult(TrialState.PRUNED, best[3].metrics).to_json()
        db.execute("UPDATE trials SET state = 'PRUNED', result = ? WHERE expression = ?", (pruned, best[1]))
    db.close()
    chosen = settings(f"warm_start.study={tmp_path / 'a'}", "warm_start.top=4")
    complete = [r for r in before if r[3].state == TrialState.COMPLETE and r[1] != best[1]]
    sign = -1 if metric == "val_accuracy" else 1
    expected = [r[1] for r in sorted(complete, key=lambda r: sign * r[3].metrics[metric])[:4]]
    assert [entry.expression for entry in warm_start(chosen)] == expected
    with Store.create(tmp_path, {}) as store:
        drive(Search(chosen, store), workers=1)
        assert of_stage(trials(store), SEARCH)[:4] == expected


def test_the_best_of_an_earlier_study_are_those_of_its_leaderboard(tmp_path):
    """What was confirmed with fresh seeds counts, not the seed that picked it; a mere baseline was not found."""
    study(tmp_path / "a", "search.trials=12", "retrain={top: 6, seeds: 3}", "baselines=[tanh]", "strategy.name=random")
    with Store.open(tmp_path / "a") as store:
        retrained: dict[str, list[float]] = {}
        picked = [r for r in store.records() if r.trial.stage == SEARCH and r.result.state == "COMPLETE"]
        searched = {r.trial.expression for r in picked}
        for r in store.records():
            if r.trial.stage == RETRAIN and r.result.metrics:
                retrained.setdefault(r.trial.expression, []).append(r.result.metrics["val_accuracy"])
    means = {text: np.mean(found) for text, found in retrained.items() if text in searched and len(found) == 3}
    expected = sorted(means, key=means.__getitem__, reverse=True)[:2]
    chosen = settings(f"warm_start.study={tmp_path / 'a'}", "warm_start.top=2")
    assert [entry.expression for entry in warm_start(chosen)] == expected
    by_luck = [r.trial.expression for r in sorted(picked, key=lambda r: -r.result.metrics["val_accuracy"])]
    assert by_luck[:2] != expected  # so it is worth a test


def test_one_function_to_start_with_needs_no_list():
    assert [entry.expression for entry in warm_start(settings("warm_start.functions=SiLU"))] == ["x * sigmoid(x)"]


def test_an_option_that_is_spelled_out_is_no_difference(tmp_path):
    study(tmp_path / "a")
    assert len(warm_start(settings(f"warm_start.study={tmp_path / 'a'}", "data.val_fraction=0.3"))) == 8


@pytest.mark.parametrize(
    ("override", "difference"),
    [
        ("trial.precision=bf16", "trial.precision was fp32, now it is bf16"),
        ("data.val_fraction=0.4", "data.val_fraction was 0.3, now it is 0.4"),
        ("recipe.learning_rate=0.3", "recipe.learning_rate was 0.1, now it is 0.3"),
        ("recipe.schedule=cosine", "recipe.schedule was triangle, now it is cosine"),
        ("model.width=8", "model.width was 4, now it is 8"),
        ("trial.epochs=2", "trial.epochs was 1, now it is 2"),
        ("trial.max_steps=3", "trial.max_steps was 2, now it is 3"),
        ("trial.param_shape=scalar", "trial.param_shape was channel, now it is scalar"),
        ("data={name: fashion_mnist, root: /nowhere}", "data was digits, now it is fashion_mnist"),
    ],
)
def test_a_study_that_trained_otherwise_is_refused(tmp_path, override, difference):
    study(tmp_path / "a")
    chosen = settings(f"warm_start.study={tmp_path / 'a'}", override)
    with pytest.raises(ConfigError) as refused:
        warm_start(chosen)
    assert difference in str(refused.value)
    assert "set warm_start.top=N to train its best N functions first" in str(refused.value)
    assert str(tmp_path / "a") in str(refused.value)
    assert len(warm_start(settings(f"warm_start.study={tmp_path / 'a'}", override, "warm_start.top=2"))) == 2


@pytest.mark.parametrize("override", ["seed=9", "strategy.name=tpe", "search.trials=3", "search.objective=val_loss"])
def test_a_study_that_searched_otherwise_is_not(tmp_path, override):
    study(tmp_path / "a")
    assert len(warm_start(settings(f"warm_start.study={tmp_path / 'a'}", override))) == 8


def test_known_functions_survive_their_storage():
    for known in (Known("tanh(x)"), Known("x", make_result(0.5)), Known("x", make_result(None, TrialState.FAIL))):
        assert Known.from_values(yaml.safe_load(yaml.safe_dump(known.to_values()))) == known


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir(), lambda path: path.write_text("")])
def test_what_is_no_study_is_a_sentence(tmp_path, make):
    make(tmp_path / "old")
    with pytest.raises(StoreError, match="is not a study's directory"):
        warm_start(settings(f"warm_start.study={tmp_path / 'old'}"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["warm_start.study=nowhere"], "nowhere is not a study's directory"),
        pytest.param(["warm_start.study=old", "model.width=8"], "model.width was 4, now it is 8"),
        (["warm_start.functions=[swich]"], "warm_start.functions: unknown activation 'swich'; did you mean 'Swish'"),
        (["warm_start.functions=[x1 * x2]"], "only input is x"),
        (["warm_start.study=old", "warm_start.top=0"], "greater than 0"),
        (["warm_start.stduy=old"], "did you mean 'study'?"),
        (
            ["search.cost=complexity", "strategy.name=evolution"],
            "is a second objective, and this strategy has one",
        ),
        (["search.cost=time", "strategy.name=gradient"], "is a second objective, and this strategy has one"),
        (["search.cost=money"], "search.cost: Input should be 'complexity' or 'time'"),
    ],
)
def test_bad_input_is_a_sentence_and_exit_code_2(tmp_path, monkeypatch, capsys, arguments, message):
    study(tmp_path / "old")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    before = sorted(p.name for p in tmp_path.iterdir())
    monkeypatch.setattr(sys, "argv", ["nas", "search", "tiny.yaml", *arguments, "--run", "run"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in " ".join(printed.err.split())
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_a_retrained_function_of_the_earlier_study_was_found(tmp_path):
    study(tmp_path / "a", "search.trials=20", "retrain.top=0")
    chosen = settings(f"warm_start.study={tmp_path / 'a'}", "search.trials=1")
    with Store.create(tmp_path, chosen.model_dump(mode="json")) as store:
        drive(Search(chosen, store), workers=1)
        assert leaderboard(store)["found"].all()
