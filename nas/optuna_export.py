"""A study as Optuna keeps one in SQLite, for optuna-dashboard and for pandas by way of ``study.trials_dataframe()``.

A view for looking at, not for going on with. What Optuna calls parameters are facts about the function: how many nodes
it has, how deep it is, how many parameters it learns, which operator it ends in, and whether it uses each of the
study's most frequent operators. So the dashboard's plots say which building blocks go with good results; whether they
cause them is another question. Relaxed networks are left out, which are not one function, and so are confirmations,
whose scores are on other data.
"""

from __future__ import annotations

import datetime
import math
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, create_trial
from optuna.trial import TrialState as OptunaState
from sqlalchemy.exc import SQLAlchemyError

from analysis.store import Record, Store
from nas.config import restore_config
from nas.optuna_storage import Direction, write_storage
from nas.search import RETRAIN, SEARCH
from nas.strategies import Objective
from search_spaces.expression import Call, Expression, depth, params, size, walk
from search_spaces.parser import parse
from trainers.trial import METRICS, TrialResult, TrialState

_OPERATORS = 12  # of the most frequent ones; with all of them a plot of parallel coordinates cannot be read
_STATES = {
    TrialState.COMPLETE: OptunaState.COMPLETE,
    TrialState.PRUNED: OptunaState.PRUNED,
    TrialState.FAIL: OptunaState.FAIL,
    TrialState.RUNNING: OptunaState.RUNNING,
}


class OptunaExportError(ValueError):
    """A file that cannot be written. The message says what to do."""


def export_optuna(run: Path, file: Path) -> int:
    """Write the study in ``run`` to the new SQLite file; answers how many trials it holds.

    The study is named after the run's directory. Its direction is the objective's; with a cost it has a second one.

    Raises:
        StoreError: this is no study.
        OptunaExportError: the file exists, or cannot be written.
    """
    if file.exists():
        raise OptunaExportError(f"{file} exists, and an export overwrites nothing; choose another name or remove it")
    with Store.open(run) as store:
        objective = restore_config(store.get("config")).objective()
        began = _moment(store.get("created", ""))
        records = [record for record in store.records() if record.trial.stage in (SEARCH, RETRAIN)]
    try:
        with tempfile.TemporaryDirectory(prefix=".nas-optuna-", dir=file.parent) as folder:
            whole = Path(folder) / "new.db"
            trials = list(_trials(records, objective, began))
            write_storage(whole, run.resolve().name, _directions(objective), trials)
            whole.rename(file)  # at once: nobody opens half of it
    except (OSError, sqlite3.Error, StorageInternalError, SQLAlchemyError) as error:
        why = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
        raise OptunaExportError(f"{file} cannot be written ({why}); choose another place") from error
    return len(records)


def _moment(created: str) -> datetime.datetime:
    """With its time zone; now for a study that does not say when it began."""
    try:
        return datetime.datetime.strptime(created, "%Y-%m-%dT%H:%M:%S%z").astimezone(datetime.UTC)
    except ValueError:
        return datetime.datetime.now(datetime.UTC)


def _local(moment: datetime.datetime) -> datetime.datetime:
    """As Optuna has its dates."""
    return moment.astimezone().replace(tzinfo=None)


def _trials(records: list[Record], objective: Objective, began: datetime.datetime) -> Iterator[FrozenTrial]:
    """Optuna's trials.

    A store keeps how long a training took and the order of the starts, not the time of day. So trials are laid out from
    the study's beginning on, one after the other: durations are true, dates are not.
    """
    expressions = [parse(record.trial.expression) for record in records]
    functions = Counter(name for expression in set(expressions) for name in _operators(expression))
    operators = [name for name, _ in functions.most_common(_OPERATORS)]
    facts = [_facts(expression, operators) for expression in expressions]
    distributions = _distributions(facts)
    for record, expression, known in zip(records, expressions, facts, strict=True):
        result = record.result or TrialResult(TrialState.RUNNING)
        started, began = began, began + datetime.timedelta(seconds=result.seconds)
        values = _values(objective, expression, result)
        state = _STATES[result.state]
        if state == OptunaState.COMPLETE and values is None:
            state = OptunaState.FAIL  # it has no value of this objective, and Optuna's complete trials have one
        trial = create_trial(
            state=state,
            values=values if state == OptunaState.COMPLETE else None,
            params=known,
            distributions=distributions,
            user_attrs=_notes(record, result),
            intermediate_values=_curve(objective, result),
        )
        trial.datetime_start = _local(started)
        trial.datetime_complete = None if state == OptunaState.RUNNING else _local(began)
        yield trial


def _directions(objective: Objective) -> dict[str, Direction]:
    found: dict[str, Direction] = {objective.metric: "maximize" if METRICS[objective.metric] == "max" else "minimize"}
    if objective.cost:
        found[objective.cost] = "minimize"
    return found


def _values(objective: Objective, expression: Expression, result: TrialResult) -> list[float] | None:
    """Of every objective; None if one is not known."""
    values = [result.metrics.get(objective.metric)]
    values += [objective.cost_of(expression, result)] if objective.cost else []
    known = [float(value) for value in values if value is not None and not math.isnan(value)]
    return known if len(known) == len(values) else None


def _curve(objective: Objective, result: TrialResult) -> dict[int, float]:
    """The objective after every reported epoch."""
    reports = [report for report in result.history if "epoch" in report and objective.metric in report]
    return {int(report["epoch"]): float(report[objective.metric]) for report in reports}


def _notes(record: Record, result: TrialResult) -> dict[str, Any]:
    notes = {
        "formula": record.formula,
        "name": record.known_name,
        "likeness": record.likeness,
        "stage": record.trial.stage,
        "seed": record.trial.seed,
        "seconds": result.seconds,
        "reason": result.reason,
        "expression": record.trial.expression,
        "id": record.trial.id,
    }
    return {key: value for key, value in notes.items() if value is not None}


def _operators(expression: Expression) -> Counter[str]:
    """How often each is used."""
    return Counter(node.op for node in walk(expression) if isinstance(node, Call))


def _facts(expression: Expression, operators: Iterable[str]) -> dict[str, Any]:
    """What Optuna calls parameters: of one function."""
    used = _operators(expression)
    return {
        "complexity": size(expression),
        "depth": depth(expression),
        "learnable": len(params(expression)),
        "outermost": expression.op if isinstance(expression, Call) else "none",
        **{f"uses {name}": used[name] for name in operators},
    }


def _distributions(facts: Sequence[dict[str, Any]]) -> dict[str, BaseDistribution]:
    """From the least to the greatest value that occurs, or the words that occur."""
    found: dict[str, BaseDistribution] = {}
    for name in facts[0] if facts else ():
        values = sorted({each[name] for each in facts})
        words = isinstance(values[0], str)
        found[name] = CategoricalDistribution(values) if words else IntDistribution(values[0], values[-1])
    return found
