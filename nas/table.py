"""``nas table``: train every function of a space with several seeds and write the results as a table."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.properties import is_swish_like
from analysis.store import FILE_NAME, Store
from analysis.trials import read_trials
from analysis.yardstick import (
    FUNCTION_COLUMNS,
    FUNCTIONS,
    TRAINING_COLUMNS,
    TRAININGS,
    ResultTable,
    TableError,
    read_table,
)
from nas import __version__
from nas.config import ExperimentConfig, load_config
from nas.runs import Run, create_run, default_run_path, open_run
from nas.search import RELAX, Search, described
from nas.sections import RetrainConfig, WarmStartConfig
from nas.strategies.gradient import relaxation_of
from nas.table_readme import readme
from nas.yaml_config import ComponentConfig
from search_spaces.census import take_census
from search_spaces.expression import Expression, size
from search_spaces.parser import parse
from search_spaces.values import one_thread
from trainers.cost import relative_cost
from trainers.trial import METRICS


def sweep_config(config: ExperimentConfig, seeds: int, relaxations: int) -> ExperimentConfig:
    """The configuration of a study that trains every function with so many seeds: no pruning, no screen, no baselines.

    Raises:
        TableError: the space is too large, or has no relaxations.
    """
    space = config.make_space()
    try:
        census = take_census(space, config.search.equivalence)
        if relaxations:
            relaxation_of(space)
    except ValueError as error:
        raise TableError(f"space {config.space.name!r}: {' '.join(str(error).split())}") from error
    return config.model_copy(  # one trial more than there are functions: the strategy ends the search, not the number
        update={
            "strategy": ComponentConfig.model_validate({"name": "exhaustive", "relaxations": relaxations}),
            "search": config.search.model_copy(
                update={"trials": census.trainable + 1, "minutes": None, "screen": False, "cost": None}
            ),
            "pruning": None,
            "retrain": RetrainConfig(top="all", seeds=seeds - 1),
            "baselines": (),
            "warm_start": WarmStartConfig(),
        }
    )


@contextlib.contextmanager
def table_run(
    source: str, overrides: list[str], seeds: int | None, relaxations: int | None, out: Path | None
) -> Iterator[tuple[Run, Path]]:
    """The study behind a table, an existing one if ``source`` is a run's directory, and the folder for the table.

    Raises:
        TableError: a study that is none of a table, or one that is to be changed; a folder that holds something else.
        ConfigError: everything that is wrong with a configuration.
    """
    if (Path(source) / FILE_NAME).is_file():
        changes = [*overrides, *(["--seeds"] if seeds else []), *(["--relaxations"] if relaxations else [])]
        if changes:
            raise TableError(f"{source} goes on as it was begun; leave {', '.join(changes)} out")
        with open_run(Path(source)) as run:
            if run.config.strategy.name != "exhaustive" or run.config.retrain.top != "all":
                raise TableError(f"{source} is a search, not the study of a table; start one with: nas table CONFIG")
            yield run, checked_folder(out, run.config)
    else:
        config = sweep_config(load_config(source, overrides), seeds or 2, relaxations or 0)
        folder = checked_folder(out, config)
        with create_run(config, default_run_path(config)) as run:
            yield run, folder


def checked_folder(out: Path | None, config: ExperimentConfig) -> Path:
    """Where the table is going to be written: ``tables/NAME`` unless said otherwise.

    Raises:
        TableError: something else is there, or the table of another study.
    """
    folder = out or Path("tables") / config.name
    try:
        others = [entry.name for entry in folder.iterdir()] if folder.exists() else []
    except OSError as error:
        raise TableError(f"{folder} cannot be read ({error.strerror or error}); choose another --out") from error
    if not others:
        return folder
    if not set(others) <= {FUNCTIONS, TRAININGS, "README.md"}:
        raise TableError(f"{folder} holds something else than a table; choose another --out")
    if read_table(folder).about.get("config") != shown_config(config):
        raise TableError(f"{folder} holds the table of another study; choose another --out, or remove it")
    return folder


def shown_config(config: ExperimentConfig) -> dict[str, Any]:
    """A configuration without paths of the machine, and without where it ran."""
    values = config.model_dump(mode="json", exclude={"ray"})
    return values | {"data": _without_root(values["data"])}


def _without_root(options: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if key != "root"}


def make_table(run: Run, search: Search, step: Callable[[int, int], None] = lambda done, total: None) -> ResultTable:
    """The table of a study whose search is done. ``step`` is told how many of its functions have been described.

    Raises:
        TableError: trainings are missing.
    """
    if not search.done:
        raise TableError(f"{run.path} is not finished; go on with: nas table {run.path}")
    rows = read_trials(run.store)
    rows = rows[rows["stage"] != RELAX]
    spellings = list(dict.fromkeys(zip(rows["function_key"], rows["expression"], strict=True)))
    first = dict(reversed(spellings))
    order = {key: number for number, key in enumerate(dict.fromkeys(key for key, _ in spellings))}
    described: list[dict[str, Any]] = []
    with one_thread():
        for key in order:
            step(len(described), len(order))
            described.append(_describe(parse(first[key]), search))
    trainings = rows.assign(function=rows["function_key"].map(order))[list(TRAINING_COLUMNS)]
    trainings = trainings.sort_values(["function", "seed"]).astype(dict.fromkeys(METRICS, "float64"))
    parameters = trainings["parameters"]
    trainings["parameters"] = parameters.astype("float64" if parameters.isna().any() else "int64")
    return ResultTable(
        pd.DataFrame(described, columns=list(FUNCTION_COLUMNS)), trainings.reset_index(drop=True), _about(run)
    )


def _describe(expression: Expression, search: Search) -> dict[str, Any]:
    formula, name, like = described(expression)
    return {
        "expression": str(expression),
        "formula": formula,
        "name": name,
        "likeness": like,
        "swish_family": is_swish_like(expression),
        "nodes": size(expression),
        "cost": round(relative_cost(expression), 2),
        "spectrum": search.spectrum(expression).astype(np.float32),
    }


def _about(run: Run) -> dict[str, Any]:
    results = [record.result for record in run.store.records() if record.result]
    complete = next((r for r in results if r.environment), None)
    return {
        "nas_version": run.store.get("nas_version", __version__),
        "created": run.store.get("created"),
        "config": shown_config(run.config),
        "precision": run.store.get("precision", run.config.trial.precision),
        "environment": complete.environment if complete else {},
        "relaxations": list(_relaxations(run.store)),
    }


def _relaxations(store: Store) -> Iterator[dict[str, Any]]:
    for record in store.records():
        if record.trial.relaxation is not None and record.result is not None:
            data = record.trial.data
            trial = replace(record.trial, data=replace(data, options=_without_root(data.options)))
            yield {"trial": trial.to_json(), "result": record.result.to_json()}


def write_table(table: ResultTable, folder: Path) -> None:
    """Write a table and its README into a folder, which is made if need be.

    Raises:
        TableError: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        table.write(folder)
        (folder / "README.md").write_text(readme(table), encoding="utf-8")
    except OSError as error:
        raise TableError(f"{folder} cannot be written ({error.strerror or error}); choose another --out") from error
