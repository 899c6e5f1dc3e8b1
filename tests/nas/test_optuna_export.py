"""Studies as Optuna storages: read back by Optuna, and as plain SQLite."""

from __future__ import annotations

import datetime
import sqlite3
from dataclasses import replace

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, create_trial

import nas.optuna_storage
from analysis.store import Record, Store, StoreError
from nas.optuna_export import OptunaExportError, export_optuna
from nas.optuna_storage import write_storage
from search_spaces.expression import depth, size
from search_spaces.parser import parse
from tests.made_studies import settings, study
from tests.nas.loggers.logged import go_on
from tests.records import make_result, make_trial
from trainers.trial import TrialState


def load(file, name: str = "run") -> optuna.Study:
    return optuna.load_study(study_name=name, storage=f"sqlite:///{file}")


def test_every_trial_is_there_with_what_is_known_of_it(tmp_path):
    pruned = ["trial.epochs=3", "pruning={metric: val_loss, rungs: [1]}", "search.trials=15"]
    go_on(tmp_path / "run", *pruned)
    with Store.open(tmp_path / "run") as store:
        records = store.records()
    assert {r.result.state for r in records} == {"COMPLETE", "PRUNED", "FAIL"}
    assert export_optuna(tmp_path / "run", tmp_path / "study.db") == len(records)
    read = load(tmp_path / "study.db")
    assert (read.direction.name, read.metric_names) == ("MAXIMIZE", ["val_accuracy"])
    assert [t.number for t in read.trials] == list(range(len(records)))
    for trial, record in zip(read.trials, records, strict=True):
        result, expression = record.result, parse(record.trial.expression)
        assert trial.state.name == result.state
        complete = result.state == TrialState.COMPLETE
        assert trial.values == ([result.metrics["val_accuracy"]] if complete else None)
        assert trial.intermediate_values == {m["epoch"]: m["val_accuracy"] for m in result.history}
        assert trial.params["complexity"] == size(expression)
        assert trial.params["depth"] == depth(expression)
        assert trial.params["uses max"] == record.trial.expression.count("max(")
        expected = {"formula": record.formula, "name": record.known_name, "likeness": record.likeness}
        expected |= {"stage": record.trial.stage, "seed": record.trial.seed, "reason": result.reason}
        expected |= {"seconds": result.seconds, "expression": record.trial.expression, "id": record.trial.id}
        assert trial.user_attrs == {key: value for key, value in expected.items() if value is not None}
        assert trial.duration == datetime.timedelta(seconds=result.seconds)
    best = max(r.result.metrics["val_accuracy"] for r in records if r.result.state == "COMPLETE")
    assert read.best_value == best
    created = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC).astimezone().replace(tzinfo=None)
    assert read.trials[0].datetime_start == created
    assert {t.params["outermost"] for t in read.trials} <= {"mul", "add", "max"}
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_plots_have_parameters_that_differ(tmp_path):
    study(tmp_path / "run", "search.trials=15")
    export_optuna(tmp_path / "run", tmp_path / "study.db")
    importances = optuna.importance.get_param_importances(load(tmp_path / "study.db"))
    assert set(importances) >= {"complexity", "depth", "outermost", "uses max", "uses tanh"}


def test_smaller_is_better_and_a_cost_is_a_second_objective(tmp_path):
    study(tmp_path / "run", "search.objective=val_loss", "search.cost=complexity", "strategy=nsga2")
    export_optuna(tmp_path / "run", tmp_path / "study.db")
    read = load(tmp_path / "study.db")
    assert [d.name for d in read.directions] == ["MINIMIZE", "MINIMIZE"]
    assert read.metric_names == ["val_loss", "complexity"]
    complete = [t for t in read.trials if t.state.name == "COMPLETE"]
    assert all(t.values[1] == t.params["complexity"] for t in complete)
    assert read.best_trials


def test_what_runs_or_is_no_single_function(tmp_path):
    with Store.create(tmp_path, settings().model_dump(mode="json")) as store:
        for number, stage in enumerate(("search", "relax", "confirm", "search", "retrain"), 1):
            shape = "b(u(x), u(x))" if stage == "relax" else "tanh(x)"
            store.launch(Record(make_trial(number, shape, stage), f"k{number}", shape, None, None))
        store.finish(2, make_result(0.99))
        store.finish(3, make_result(0.98))
        store.finish(4, make_result(None))  # complete, and without the objective
    assert export_optuna(tmp_path, tmp_path / "optuna.db") == 3
    trials = load(tmp_path / "optuna.db", tmp_path.name).trials
    assert [(t.user_attrs["id"], t.state.name) for t in trials] == [(1, "RUNNING"), (4, "FAIL"), (5, "RUNNING")]


def test_a_study_over_the_change_to_winter_time_is_written_at_once(tmp_path, monkeypatch):
    """Local dates of that night are said twice a year, which is no reason to have Optuna write everything."""
    import time

    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    alike, found = nas.optuna_storage._alike, []
    monkeypatch.setattr(nas.optuna_storage, "_alike", lambda a, b: found.append(alike(a, b)) or True)
    try:
        for number in range(6, 14):  # trials of half an hour, from 23:00 on
            folder = tmp_path / str(number)
            folder.mkdir()
            with Store.create(folder, settings().model_dump(mode="json")) as store:
                store.put("created", "2026-10-24T23:00:00+0200")
                for n in range(1, number + 1):
                    store.launch(Record(make_trial(n), "k", "tanh(x)", None, None))
                    store.finish(n, replace(make_result(0.5), seconds=1800.0))
            export_optuna(folder, folder / "optuna.db")
            last = load(folder / "optuna.db", folder.name).trials[-1]
            start = datetime.datetime(2026, 10, 24, 23) + (number - 1) * datetime.timedelta(minutes=30)
            later = datetime.timedelta(hours=1 if start.hour > 2 and start.day == 25 else 0)
            assert abs(last.datetime_start - (start - later)) <= datetime.timedelta(hours=1)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert found == [True] * 8


@pytest.mark.parametrize("number", [0, 1])
def test_small_studies(tmp_path, number):
    with Store.create(tmp_path, settings().model_dump(mode="json")) as store:
        for n in range(1, number + 1):
            store.launch(Record(make_trial(n), "k", "tanh(x)", None, None))
            store.finish(n, make_result(0.5))
    assert export_optuna(tmp_path, tmp_path / "optuna.db") == number
    assert len(load(tmp_path / "optuna.db", tmp_path.name).trials) == number


def test_nothing_is_overwritten_and_refusals_are_sentences(tmp_path):
    study(tmp_path / "run")
    file = tmp_path / "study.db"
    file.write_text("mine")
    with pytest.raises(OptunaExportError, match="exists, and an export overwrites nothing"):
        export_optuna(tmp_path / "run", file)
    assert file.read_text() == "mine"
    with pytest.raises(OptunaExportError, match=r"cannot be written .No such file or directory.; choose another place"):
        export_optuna(tmp_path / "run", tmp_path / "nowhere" / "study.db")
    with pytest.raises(StoreError):
        export_optuna(tmp_path, tmp_path / "new.db")
    assert not (tmp_path / "new.db").exists()


def odd_trials() -> list[FrozenTrial]:
    """Of every state and kind of number."""
    kinds = {"a": IntDistribution(0, 9), "b": CategoricalDistribution(["x", "y"]), "c": FloatDistribution(0, 1)}
    states = optuna.trial.TrialState
    found = []
    for number in range(12):
        state = (states.COMPLETE, states.PRUNED, states.FAIL, states.RUNNING)[number % 4]
        trial = create_trial(
            state=state,
            values=[float(number) if number else float("inf")] if state == states.COMPLETE else None,
            params={"a": number % 10, "b": "xy"[number % 2], "c": number / 12},
            distributions=kinds,
            user_attrs={"note": 'é "quoted"', "list": [1, None]},
            intermediate_values={1: 0.5, 2: float("nan"), 3: float("-inf")},
        )
        start = datetime.datetime(2026, 7, 1, 12, 0, 0, 1000 * number)
        trial.datetime_start = start
        trial.datetime_complete = None if state == states.RUNNING else start + datetime.timedelta(seconds=1)
        found.append(trial)
    return found


def as_text(trials) -> list[str]:
    facts = ("number", "state", "values", "params", "distributions", "user_attrs", "intermediate_values")
    return [repr([getattr(t, f) for f in (*facts, "datetime_start", "datetime_complete")]) for t in trials]


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata"])
def test_rows_written_at_once_are_those_that_optuna_writes(tmp_path, monkeypatch, zone):
    import time

    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        write_storage(tmp_path / "fast.db", "s", {"v": "maximize"}, odd_trials())
        monkeypatch.setattr(nas.optuna_storage, "_alike", lambda *_: False)
        write_storage(tmp_path / "slow.db", "s", {"v": "maximize"}, odd_trials())
        fast, slow = load(tmp_path / "fast.db", "s").trials, load(tmp_path / "slow.db", "s").trials
        assert as_text(fast) == as_text(slow)
    finally:
        monkeypatch.undo()
        time.tzset()
    for table in ("trials", "trial_params", "trial_values", "trial_user_attributes", "trial_intermediate_values"):
        found = []
        for name in ("fast.db", "slow.db"):
            db = sqlite3.connect(tmp_path / name)
            found.append(sorted(map(repr, db.execute(f"SELECT * FROM {table}"))))
            db.close()
        if table in ("trials", "trial_values"):
            assert found[0] == found[1]
        assert len(found[0]) == len(found[1])


def test_tables_that_have_changed_are_left_to_optuna(tmp_path, monkeypatch):
    monkeypatch.setitem(nas.optuna_storage._INSERT, "trials", "(trial_id, gone) VALUES (?, ?)")
    write_storage(tmp_path / "study.db", "s", {"v": "maximize"}, odd_trials())
    assert len(load(tmp_path / "study.db", "s").trials) == 12


def test_the_command(tmp_path):
    from typer.testing import CliRunner

    from nas.cli import app

    study(tmp_path / "run")
    file = tmp_path / "study.db"
    done = CliRunner().invoke(app, ["optuna", str(tmp_path / "run"), str(file)])
    assert done.exit_code == 0, done.output
    assert f"sqlite:///{file}" in done.output.replace("\n", "")
    assert load(file).trials
