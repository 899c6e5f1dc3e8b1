"""``nas table``: train every function of a space with several seeds and write the results as a table."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.leaderboard import trials
from analysis.properties import is_swish_like
from analysis.store import Store
from analysis.yardstick import FUNCTION_COLUMNS, FUNCTIONS, TRAINING_COLUMNS, TRAININGS, ResultTable, TableError
from nas import __version__
from nas.config import ExperimentConfig, RetrainConfig
from nas.runs import Run, create_run, default_run_path, open_run
from nas.search import RELAX, Search
from nas.table_readme import readme
from nas.yaml_config import ComponentConfig
from search_spaces.canonical import simplify
from search_spaces.census import take_census
from search_spaces.expression import Expression, number_params, size
from search_spaces.known import recognize
from search_spaces.parser import parse
from search_spaces.recognition import likeness
from search_spaces.values import one_thread
from trainers.cost import relative_cost
from trainers.trial import METRICS


def sweep_config(config: ExperimentConfig, seeds: int, relaxations: int) -> ExperimentConfig:
    """The configuration of a study that trains every function with so many seeds: no pruning, no screen, no baselines.

    Raises:
        ValueError: the space is too large to be enumerated.
    """
    census = take_census(config.make_space(), config.search.equivalence)
    return config.model_copy(
        update={
            "strategy": ComponentConfig.model_validate({"name": "exhaustive", "relaxations": relaxations}),
            "search": config.search.model_copy(
                update={"trials": census.trainable, "minutes": None, "screen": False, "cost": None}
            ),
            "pruning": None,
            "retrain": RetrainConfig(top="all", seeds=seeds - 1),
            "baselines": (),
        }
    )


@contextlib.contextmanager
def table_run(source: str, load: Callable[[], ExperimentConfig], seeds: int, relaxations: int) -> Iterator[Run]:
    """The study behind a table: an existing one if ``source`` is a run's directory, else a new one."""
    if Path(source).is_dir():
        with open_run(Path(source)) as run:
            if run.config.strategy.name != "exhaustive" or run.config.retrain.top != "all":
                raise TableError(f"{source} is a search, not the study of a table; start one with: nas table CONFIG")
            yield run
    else:
        config = sweep_config(load(), seeds, relaxations)
        with create_run(config, default_run_path(config)) as run:
            yield run


def make_table(run: Run, search: Search, step: Callable[[int, int], None] = lambda done, total: None) -> ResultTable:
    """The table of a study whose search is done. ``step`` is told how many of its functions have been described.

    Raises:
        TableError: trainings are missing.
    """
    if not search.done:
        raise TableError(f"{run.path} is not finished; go on with: nas table {run.path}")
    rows = trials(run.store)
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
    return ResultTable(
        pd.DataFrame(described, columns=list(FUNCTION_COLUMNS)), trainings.reset_index(drop=True), _about(run)
    )


def _describe(expression: Expression, search: Search) -> dict[str, Any]:
    found = likeness(expression)
    return {
        "expression": str(expression),
        "formula": str(number_params(simplify(expression))),
        "name": recognize(expression),
        "likeness": None if found is None else str(found),
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
        "config": run.config.model_dump(mode="json"),
        "precision": run.store.get("precision", run.config.trial.precision),
        "environment": complete.environment if complete else {},
        "relaxations": list(_relaxations(run.store)),
    }


def _relaxations(store: Store) -> Iterator[dict[str, Any]]:
    for record in store.records():
        if record.trial.relaxation is not None and record.result is not None:
            yield {"trial": record.trial.to_json(), "result": record.result.to_json()}


def write_table(table: ResultTable, folder: Path) -> None:
    """Write a table and its README into a folder, which is made if need be.

    Raises:
        TableError: the folder holds something else, or cannot be written.
    """
    ours = {FUNCTIONS, TRAININGS, "README.md"}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(entry.name not in ours for entry in folder.iterdir()):
            raise TableError(f"{folder} holds something else than a table; choose another --out")
        table.write(folder)
        (folder / "README.md").write_text(readme(table), encoding="utf-8")
    except OSError as error:
        raise TableError(f"{folder} cannot be written ({error.strerror or error}); choose another --out") from error
