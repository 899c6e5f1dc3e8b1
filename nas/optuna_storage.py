"""Many finished trials into an Optuna storage of SQLite at once.

``Study.add_trials`` takes a transaction and dozens of queries a trial: 10 to 30 ms, minutes for 20,000. So Optuna
makes the file, the study and the first trial, and the other rows are written beside that one. Then Optuna is asked for
the last of them; if it reads something else than was meant (its tables have changed), it has to add them itself.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import math
import sqlite3
import warnings
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal

import optuna
from optuna.distributions import distribution_to_json
from optuna.trial import FrozenTrial

Direction = Literal["minimize", "maximize"]
_as_json = lru_cache(maxsize=1000)(distribution_to_json)
_INSERT = {
    "trials": "(trial_id, number, study_id, state, datetime_start, datetime_complete) VALUES (?, ?, ?, ?, ?, ?)",
    "trial_params": "(trial_id, param_name, param_value, distribution_json) VALUES (?, ?, ?, ?)",
    "trial_values": "(trial_id, objective, value, value_type) VALUES (?, ?, ?, ?)",
    "trial_user_attributes": "(trial_id, key, value_json) VALUES (?, ?, ?)",
    "trial_intermediate_values": ("(trial_id, step, intermediate_value, intermediate_value_type) VALUES (?, ?, ?, ?)"),
}


def write_storage(file: Path, name: str, metrics: dict[str, Direction], trials: Sequence[FrozenTrial]) -> None:
    """A new storage with one study.

    Args:
        file: to write.
        name: of the study.
        metrics: the direction of every objective, by its name.
        trials: in their order, with dates in local time.
    """
    if not _written(file, name, metrics, trials, at_once=True):
        file.unlink()
        _written(file, name, metrics, trials, at_once=False)


def _written(
    file: Path, name: str, metrics: dict[str, Direction], trials: Sequence[FrozenTrial], *, at_once: bool
) -> bool:
    """Write it; answers whether the rows written beside Optuna are to Optuna what they are to us."""
    with _quiet(), _storage(file) as storage:
        study = optuna.create_study(storage=storage, study_name=name, directions=list(metrics.values()))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names(list(metrics))
        study.add_trials(trials[:1] if at_once else trials)
        if not at_once or len(trials) < 2:
            return True
        try:
            _insert(file, trials)
        except sqlite3.OperationalError as error:
            if "no column" in str(error) or "no such table" in str(error):
                return False
            raise
    with _storage(file) as storage:
        return _alike(storage.get_trial(len(trials)), trials[-1])


@contextlib.contextmanager
def _storage(file: Path) -> Iterator[optuna.storages.RDBStorage]:
    storage = optuna.storages.RDBStorage(f"sqlite:///{file.resolve()}")
    try:
        yield storage
    finally:
        storage.engine.dispose()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without Optuna's line for every study that is made."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def _insert(file: Path, trials: Sequence[FrozenTrial]) -> None:
    """All trials but the first, whose dates show whether Optuna keeps local time (before version 5) or UTC."""
    with contextlib.closing(sqlite3.connect(file)) as db, db:
        study, start = db.execute("SELECT study_id, datetime_start FROM trials WHERE trial_id = 1").fetchone()
        assert trials[0].datetime_start is not None
        in_utc = datetime.datetime.fromisoformat(start) == _utc(trials[0].datetime_start)
        rows: dict[str, list[tuple[object, ...]]] = {table: [] for table in _INSERT}
        for number, trial in enumerate(trials[1:], 1):
            moments = [_moment(m, in_utc) for m in (trial.datetime_start, trial.datetime_complete)]
            rows["trials"].append((number + 1, number, study, trial.state.name, *moments))
            for table, values in _details(trial):
                rows[table].append((number + 1, *values))
        for table, columns in _INSERT.items():
            db.executemany(f"INSERT INTO {table} {columns}", rows[table])


def _details(trial: FrozenTrial) -> Iterator[tuple[str, tuple[object, ...]]]:
    """What a trial has any number of: the table, and the row without the trial's id."""
    for name, value in trial.params.items():
        kind = trial.distributions[name]
        yield "trial_params", (name, kind.to_internal_repr(value), _as_json(kind))
    for number, value in enumerate(trial.values or ()):
        yield "trial_values", (number, *_number(value))
    for name, note in trial.user_attrs.items():
        yield "trial_user_attributes", (name, json.dumps(note))
    for step, value in trial.intermediate_values.items():
        yield "trial_intermediate_values", (step, *_number(value))


def _number(value: float) -> tuple[float | None, str]:
    """SQL knows finite numbers; the others are words."""
    if math.isfinite(value):
        return value, "FINITE"
    return None, "NAN" if math.isnan(value) else "INF_POS" if value > 0 else "INF_NEG"


def _moment(moment: datetime.datetime | None, in_utc: bool) -> str | None:
    if moment is None:
        return None
    return (_utc(moment) if in_utc else moment).strftime("%Y-%m-%d %H:%M:%S.%f")


def _utc(local: datetime.datetime) -> datetime.datetime:
    return local.astimezone(datetime.UTC).replace(tzinfo=None)


def _alike(found: FrozenTrial, meant: FrozenTrial) -> bool:
    facts = ("state", "values", "params", "distributions", "user_attrs", "datetime_start", "datetime_complete")
    same = all(getattr(found, fact) == getattr(meant, fact) for fact in facts)
    return same and repr(found.intermediate_values) == repr(meant.intermediate_values)  # NaN is not equal to itself
