"""All trials of a study as a table of pandas."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

import pandas as pd
from pydantic_core import from_json

from analysis.store import Store, StoreError
from analysis.store_errors import unreadable
from trainers.trial import DIRECTIONS, TrialState

TRIAL_COLUMNS: dict[str, tuple[str, str]] = {
    "id": ("int64", "number of the trial, in the order of their start"),
    "stage": ("str", "search, retrain, confirm or relax"),
    "setting": ("str", "of a confirmation elsewhere: the configuration; missing for the study's own model and data"),
    "formula": ("str", "the activation function in a simple spelling"),
    "name": ("str", "its name, if it is a known one"),
    "likeness": ("str", "the known function that it is (=) or nearly is (~), or Swish family; of the best ones"),
    "expression": ("str", "the function as it was trained"),
    "function_key": ("str", "equal for equal functions of the study"),
    "complexity": ("Int64", "number of nodes of the expression"),
    "seed": ("int64", "of initialisation, order of the data and augmentation"),
    "state": ("str", "COMPLETE, PRUNED, FAIL or RUNNING"),
    "reason": ("str", "why, for a failure"),
    "val_accuracy": ("float64", "0 to 1, on the part held out of the training set, last report"),
    "val_loss": ("float64", "cross-entropy in nats, there"),
    "val_bpb": ("float64", "bits per byte, there, for text"),
    "train_loss": ("float64", "mean cross-entropy of the last epoch's batches, nats"),
    "train_loss_sum": ("float64", "sum of that over epochs"),
    "test_accuracy": ("float64", "0 to 1, on the test set; of confirmations only"),
    "test_loss": ("float64", "nats, there"),
    "test_bpb": ("float64", "bits per byte, there, for text"),
    "epoch": ("Int64", "last epoch that was reported"),
    "seconds": ("float64", "wall-clock time of the training"),
    "cost": ("float64", "time of the function's forward and backward pass as a multiple of ReLU's, where measured"),
    "parameters": ("Int64", "trained values in the model, the activation's included"),
    "attempts": ("int64", "how often the trial was started; more than once after an interruption"),
    "launched": ("int64", "number of its start among all events of the study"),
    "finished": ("Int64", "number of its end among them"),
}
"""Columns of :func:`read_trials`: type of pandas, and meaning."""

STAGES = ("search", "retrain", "confirm", "relax")
_STORED = {"known_name": "name"} | {
    name: name
    for name in TRIAL_COLUMNS
    if name not in ("name", "cost", "epoch", *DIRECTIONS)  # these are in the result
}


def read_trials(store: Store) -> pd.DataFrame:
    """A row a trial, in the order of their start, with the columns :data:`TRIAL_COLUMNS`.

    Raises:
        StoreError: a value is of another type than it should be; the file is damaged, or not ours.
    """
    try:
        rows = store.columns(*_STORED, "result")
        table = pd.DataFrame([row[:-1] for row in rows], columns=list(_STORED.values()))
        results = [_result(row[-1]) for row in rows]
        for name in (*DIRECTIONS, "epoch"):
            table[name] = [metrics.get(name) for metrics, _ in results]
        table["cost"] = [cost for _, cost in results]
        for name, (kind, _) in TRIAL_COLUMNS.items():
            table[name] = _typed(table[name], kind)
        for name, known in (("state", set(TrialState)), ("stage", set(STAGES))):
            if odd := set(table[name]) - known:
                raise ValueError(f"a trial's {name} is one of {', '.join(sorted(known))}, got {sorted(odd)[:3]}")
    except (sqlite3.Error, ValueError, TypeError, KeyError, OverflowError, AttributeError) as error:
        raise unreadable(store.path, error) from error
    return table[list(TRIAL_COLUMNS)]


def _result(text: Any) -> tuple[dict[str, Any], Any]:
    """Metrics and cost."""
    if text is None:
        return {}, None
    values = from_json(text)
    return values["metrics"], values.get("cost")


def _typed(column: pd.Series, kind: str) -> pd.Series:
    """In the type of pandas; a type that SQLite let pass, though it is none of that column, is an error."""
    types = set(map(type, column.tolist()))
    if kind == "str":
        if not (types <= {str, type(None)} or all(isinstance(value, str) or pd.isna(value) for value in column)):
            raise TypeError(f"{column.name} is text")
        return column.astype("str")
    if any(issubclass(found, str | bytes | bool | list | dict) for found in types):
        raise TypeError(f"{column.name} is a number")
    whole = column.astype("float64") if kind == "Int64" else column  # None among them
    return whole.astype(pd.api.types.pandas_dtype(kind))


def to_records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as dictionaries, with None where pandas has a missing value."""
    return [
        {str(key): None if not isinstance(value, list) and pd.isna(value) else value for key, value in row.items()}
        for row in table.to_dict("records")
    ]


def read_epochs(store: Store) -> pd.DataFrame:
    """Learning curves: a row a report, with the trial's ``id``, ``epoch`` and what was reported then.

    Raises:
        StoreError: as for :func:`read_trials`.
    """
    rows = []
    try:
        for number, text in store.columns("id", "result"):
            for report in [] if text is None else from_json(text)["history"]:
                rows.append({"id": number, **{str(key): float(value) for key, value in report.items()}})
    except (sqlite3.Error, json.JSONDecodeError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise StoreError(f"{store.path} has learning curves that cannot be read ({error})") from error
    table = pd.DataFrame(rows, columns=["id", "epoch", *DIRECTIONS])
    return table.drop(columns=[name for name in DIRECTIONS if table[name].isna().all()])
