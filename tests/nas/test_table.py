"""``nas table``: a real table of a tiny space, checked against numpy, SQL and pandas; what is refused."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from analysis.store import Store
from analysis.yardstick import FUNCTIONS, TRAININGS, ResultTable, TableError, read_table
from nas.cli import main
from nas.config import restore_config
from nas.execution import execute
from nas.search import Search
from nas.table import checked_folder, make_table, shown_config, sweep_config, table_run, write_table
from nas.table_readme import rank_agreement, readme
from nas.yaml_config import apply_override
from tests.made_tables import TINY, row_of, same, tiny_functions, tiny_table, values
from trainers.cost import relative_cost


@dataclass(frozen=True)
class Made:
    config: Path
    run: Path
    folder: Path
    table: ResultTable


def write_config(path: Path, **changes) -> Path:
    path.write_text(yaml.safe_dump({**TINY, **changes}))
    return path


def train(source: Path, stop_after: int | None = None) -> tuple[Path, Search, ResultTable | None]:
    """Run a table's study as the command does; Ctrl-C after so many changes. The table is that of a finished one."""
    changes = 0
    steps: list[tuple[int, int]] = []

    @contextlib.contextmanager
    def watch(search: Search) -> Iterator:
        def changed() -> None:
            nonlocal changes
            changes += 1
            if changes == stop_after:
                raise KeyboardInterrupt

        yield changed

    begun = source.is_dir()
    with table_run(str(source), [], None if begun else 2, None if begun else 1, None) as (run, _):
        search = execute(run, watch)
        if search.done:
            table = make_table(run, search, lambda *step: steps.append(step))
            assert steps == [(n, 24) for n in range(24)]
            return run.path, search, table
        with pytest.raises(TableError, match="is not finished; go on with: nas table"):
            make_table(run, search)
        return run.path, search, None


@pytest.fixture(scope="module", autouse=True)
def quick_costs():
    """A function's cost is measured in one round instead of nine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nas.table.relative_cost", lambda expression: relative_cost(expression, rounds=1))
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Made:
    path = tmp_path_factory.mktemp("table")
    config = write_config(path / "tiny.yaml")
    with contextlib.chdir(path):
        run, _, table = train(config)
    assert table is not None
    write_table(table, path / "out")
    return Made(config, path / run, path / "out", table)


def test_every_function_that_is_not_affine_is_in_it_once(made):
    texts = list(made.table.functions["expression"])
    assert sorted(row_of(text, texts) for text in tiny_functions()) == list(range(len(texts)))
    assert len(texts) == len(tiny_functions()) == 24


def test_functions_are_described(made):
    f = made.table.functions
    for text, formula in zip(f["expression"], f["formula"], strict=True):
        np.testing.assert_allclose(values(formula), values(text), atol=1e-9)
    named = {name: text for name, text in zip(f["name"], f["expression"], strict=True) if isinstance(name, str)}
    x = np.linspace(-5, 5, 101)
    assert same(values(named["SiLU"]), x / (1 + np.exp(-x)))
    assert same(values(named["ReLU"]), np.maximum(x, 0))
    assert list(f["expression"][f["swish_family"]]) == [named["SiLU"]]
    assert list(f["nodes"]) == [len(re.findall(r"[a-z]\w*|[-+*]|\d+", text)) for text in f["expression"]]
    assert (f["cost"] > 0).all()
    assert len({len(row) for row in f["spectrum"]}) == 1
    assert all(np.isfinite(row).all() for row in f["spectrum"])


def test_trainings_are_those_of_the_study(made):
    """Read from the study with SQL alone; several spellings of a function would show as a wrong row."""
    texts = list(made.table.functions["expression"])
    with contextlib.closing(sqlite3.connect(made.run / "study.db")) as db:
        query = (
            "SELECT expression, seed, state, seconds, parameters, reason, result, trial FROM trials WHERE stage != ?"
        )
        stored = db.execute(query, ("relax",)).fetchall()
    assert len(stored) == 48
    rows = made.table.trainings.set_index(["function", "seed"])
    for expression, seed, state, seconds, parameters, reason, result, trial in stored:
        row = rows.loc[texts.index(expression), seed]
        assert row["state"] == state
        assert row["seconds"] == seconds
        assert row["parameters"] == parameters
        assert (row["reason"] if isinstance(row["reason"], str) else None) == reason
        metrics = json.loads(result)["metrics"]
        for name in ("val_accuracy", "val_loss", "val_bpb", "train_loss", "train_loss_sum"):
            assert row[name] == pytest.approx(metrics.get(name, np.nan), nan_ok=True, abs=0)
        settings = json.loads(trial)
        assert (settings["screen"], settings["report_epochs"], settings["measure_cost"]) == (False, [], False)
    assert sorted(made.table.trainings["seed"].unique()) == [0, 1]
    assert made.table.trainings["val_bpb"].isna().all()
    assert set(made.table.trainings["state"]) <= {"COMPLETE", "FAIL"}


def test_its_relaxation_is_kept_and_is_no_function(made):
    (relaxation,) = made.table.about["relaxations"]
    trial, result = json.loads(relaxation["trial"]), json.loads(relaxation["result"])
    assert trial["relaxation"]["shape"] == "b(u(x), u(x))"
    assert result["state"] == "COMPLETE"
    assert [len(row) for row in result["weights"]] == [4, 4, 3]
    assert not made.table.functions["expression"].str.contains("u(", regex=False).any()
    read = read_table(made.folder)
    assert read.about["relaxations"] == made.table.about["relaxations"]
    pd.testing.assert_frame_equal(read.trainings, made.table.trainings)


def test_an_interrupted_table_is_the_undisturbed_one(made, tmp_path, monkeypatch, capsys):
    """Stopped in both stages, and gone on with by the command; only times may differ."""
    monkeypatch.chdir(tmp_path)
    path, search, _ = train(made.config, stop_after=21)
    assert not search.search_over
    _, search, table = train(path, stop_after=45)
    assert search.search_over
    assert table is None
    monkeypatch.setattr(sys, "argv", ["nas", "table", str(path), "--out", "again"])
    main_exits(0)
    assert "24 functions with 2 seeds: again" in capsys.readouterr().out
    table = read_table(tmp_path / "again")
    untimed = ["function", "seed", "state", "reason", "val_accuracy", "val_loss", "train_loss", "train_loss_sum"]
    pd.testing.assert_frame_equal(table.trainings[untimed], made.table.trainings[untimed])
    for column in ("expression", "formula", "name", "nodes"):
        assert list(table.functions[column]) == list(made.table.functions[column])
    np.testing.assert_allclose(
        np.stack(list(table.functions["spectrum"])), np.stack(list(made.table.functions["spectrum"]))
    )
    weights = [json.loads(t.about["relaxations"][0]["result"])["weights"] for t in (table, made.table)]
    assert weights[0] == weights[1]


def test_its_readme_holds_true_numbers(made):
    text = (made.folder / "README.md").read_text()
    trainings = pd.read_parquet(made.folder / TRAININGS)
    functions = pd.read_parquet(made.folder / FUNCTIONS)
    failed = (trainings["state"] != "COMPLETE").sum()
    assert "There are 24 of them, equal ones (level `reflection`) counted once, each trained with 2 seeds" in text
    assert f"Of the 48 trainings {f'{failed} failed ({failed} diverged)' if failed else 'none failed'}." in text
    assert "outcome of 1 relaxations" in text or "outcome of 1 relaxation" in text
    assert str(made.run.parent) not in text
    (block,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    shown = yaml.safe_load(block)
    assert shown["trial"]["max_steps"] == 2
    assert shown["recipe"]["batch_size"] == TINY["recipe"]["batch_size"]
    assert shown["space"] == TINY["space"]
    assert_best_rows(text, functions, trainings, "val_accuracy", best_is_largest=True)


def assert_best_rows(text, functions, trainings, metric, best_is_largest):
    complete = trainings.assign(value=trainings[metric].where(trainings["state"] == "COMPLETE"))
    grouped = complete.groupby("function")["value"]
    mean, std = grouped.mean(), grouped.std()
    mean[grouped.count() < trainings["seed"].nunique()] = np.nan
    order = mean.sort_values(ascending=not best_is_largest, kind="stable", na_position="last").index
    rows = re.findall(r"^\| (\d+) \| `(.*)` \| (.*) \| (.*) \|$", text, re.MULTILINE)
    assert len(rows) >= 10
    for rank, formula, like, figures in rows:
        function = order[int(rank) - 1]
        if np.isnan(mean[function]):
            assert figures == "failed with a seed"
            continue
        assert figures == f"{mean[function]:.4f} ± {std[function]:.4f}"
        assert functions["formula"][function] == formula
        likeness = functions["likeness"][function]
        assert like == (likeness if isinstance(likeness, str) else "")
    assert [int(row[0]) for row in rows[:10]] == list(range(1, 11))


@pytest.mark.parametrize("metric", ["val_accuracy", "val_loss"])
def test_the_readme_of_a_table_with_failures(metric):
    config = {**load_tiny(f"search.objective={metric}").model_dump(mode="json")}
    table = tiny_table(seeds=3, failures=0.15, config=config)
    text = readme(table)
    assert "It holds no relaxations" in text
    assert_best_rows(text, table.functions, table.trainings, metric, best_is_largest=metric == "val_accuracy")
    silu = int(np.flatnonzero(table.functions["name"] == "SiLU")[0])
    assert f"`f{silu}(x)`" in text  # however far behind it is
    assert "| val_bpb |" not in text


def load_tiny(*overrides: str):
    """TINY, checked."""
    values = json.loads(json.dumps(TINY))
    for override in overrides:
        apply_override(values, override)
    return restore_config(values)


def test_rank_agreement_is_spearmans():
    table = np.random.default_rng(0).normal(size=(30, 1)) + np.random.default_rng(1).normal(size=(30, 3))
    correlation = pd.DataFrame(table).corr(method="spearman").to_numpy()
    assert rank_agreement(table) == pytest.approx(correlation[np.triu_indices(3, 1)].mean())


def test_the_readmes_ceiling_is_the_rank_correlation_among_the_best():
    table = tiny_table(seeds=3, failures=0.0, config=load_tiny().model_dump(mode="json"))
    wide = table.trainings.pivot(index="function", columns="seed", values="val_accuracy")
    best = wide.loc[wide.mean(axis=1).sort_values(ascending=False).index]
    parts = [best, best[:12]]
    expected = [part.corr(method="spearman").to_numpy()[np.triu_indices(3, 1)].mean() for part in parts]
    (row,) = re.findall(r"^\| val_accuracy \| (.*) \|$", readme(table), re.MULTILINE)
    assert row.split(" | ")[:2] == [f"{value:.2f}" for value in expected]


def test_the_configuration_that_is_shown_has_no_path(tmp_path):
    config = load_tiny(f"data={{name: image_folder, root: {tmp_path}}}")
    assert config.data.options["root"] == str(tmp_path)
    assert shown_config(config)["data"] == {"name": "image_folder"}


def test_the_readme_says_of_what_trainings_failed():
    table = tiny_table(config=load_tiny().model_dump(mode="json"))
    trainings = table.trainings.assign(reason=table.trainings["reason"].astype(object))
    failed = trainings.index[trainings["state"] == "FAIL"]
    trainings.loc[failed[0], "reason"] = "worker lost: OutOfMemoryError"
    text = readme(replace(table, trainings=trainings))
    assert f"{len(failed)} failed ({len(failed) - 1} diverged, 1 worker lost)" in text


def test_a_sweep_trains_everything_alike():
    overrides = ["search.cost=complexity", "strategy.name=tpe", "search.minutes=1", "search.trials=3", "seed=4"]
    overrides += ["baselines=[ReLU]", "retrain.top=2"]
    config = sweep_config(load_tiny(*overrides, "pruning={rungs: [1]}", "trial.epochs=3"), 4, 0)
    assert (config.pruning, config.search.minutes, config.search.screen) == (None, None, False)
    assert (config.search.cost, config.search.trials) == (None, 25)  # one more, so that it ends by itself
    assert (config.retrain.top, config.retrain.seeds, config.baselines) == ("all", 3, ())
    assert (config.seed, config.trial.epochs, config.strategy.name) == (4, 3, "exhaustive")


def test_a_sweep_starts_from_nothing():
    assert sweep_config(load_tiny("warm_start.study=/old"), 2, 0).warm_start.study is None


def test_a_folder_that_holds_something_else_is_left_alone(made, tmp_path):
    config = restore_config(made.table.about["config"])
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(TableError, match="holds something else than a table; choose another --out"):
        checked_folder(tmp_path, config)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]
    assert checked_folder(made.folder, config) == made.folder  # its own table, written again
    with pytest.raises(TableError, match="holds the table of another study"):
        checked_folder(made.folder, config.model_copy(update={"seed": 5}))
    (tmp_path / "file").write_text("")
    with pytest.raises(TableError, match="cannot be read"):
        checked_folder(tmp_path / "file", config)
    with pytest.raises(TableError, match="cannot be written"):
        write_table(made.table, tmp_path / "file")
    write_table(made.table, tmp_path / "new" / "folder")
    write_table(replace(made.table, about={**made.table.about, "created": "later"}), tmp_path / "new" / "folder")
    assert read_table(tmp_path / "new" / "folder").about["created"] == "later"


def main_exits(code: int) -> None:
    if code == 0:
        with contextlib.suppress(SystemExit):
            main()
        return
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == code


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.yaml"], "no such file, nor a shipped configuration"),
        (["{empty}"], "cannot be read: Is a directory"),
        (["{search}"], "is a search, not the study of a table; start one with: nas table CONFIG"),
        (["{config}", "--seeds", "1"], "--seeds"),
        (["{config}", "--relaxations", "-1"], "--relaxations"),
        (["{config}", "search.trails=3"], "did you mean 'trials'"),
        (["{config}", "space={{name: grafs}}", "strategy.name=evolution"], "5,000,000"),
        (["{config}", "space={{name: tree, max_nodes: 2}}", "--relaxations", "1"], "one fixed shape"),
        (["{search}", "--seeds", "3"], "goes on as it was begun; leave --seeds out"),
        (["{config}", "--out", "{empty}/.."], "holds something else than a table"),
        (["{search}", "trial.epochs=3"], "goes on as it was begun; leave trial.epochs=3 out"),
    ],
)
def test_bad_input_is_a_sentence_and_exit_code_2(made, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "search").mkdir()
    with Store.create(tmp_path / "search", load_tiny().model_dump(mode="json")):
        pass
    before = sorted(p.name for p in tmp_path.iterdir())
    places = {"config": made.config, "empty": tmp_path / "empty", "search": tmp_path / "search"}
    monkeypatch.setattr(sys, "argv", ["nas", "table", *(a.format(**places) for a in arguments)])
    main_exits(2)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in " ".join(printed.err.replace("│", " ").split())
    assert sorted(p.name for p in tmp_path.iterdir()) == before  # no half-made run
