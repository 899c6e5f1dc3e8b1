"""Whether a study's store is whole: every row readable, in agreement with itself and with the others."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator

from analysis.store import Row, Store
from search_spaces.parser import ParseError, parse
from trainers.trial import Trial, TrialResult, TrialState


def faults(store: Store) -> list[str]:
    """What is wrong with a store, a sentence each; nothing if it is whole."""
    found = [f"SQLite finds it damaged: {line}" for line in store.damage()]
    try:
        if missing := store.missing_columns():
            return [*found, f"its trials have no {', '.join(missing)}"]
        rows = list(store.rows())
    except (sqlite3.Error, UnicodeDecodeError) as error:
        return [*found, f"its trials cannot be read ({error})"]
    moments = {row["id"]: (row["launched"], row["finished"]) for row in rows}
    odd = [number for number, (begin, end) in moments.items() if not (_is_int(begin) and (end is None or _is_int(end)))]
    if odd:
        return [*found, f"trials {odd[:5]}: the numbers of their events are no numbers"]
    for row in rows:
        found += [f"trial {row['id']}: {fault}" for fault in row_faults(row)]
    return found + list(_order_faults(rows)) + list(_double_faults(rows))


def _is_int(value: object) -> bool:
    return isinstance(value, int)


def row_faults(row: Row) -> Iterator[str]:
    try:
        trial = Trial.from_json(row["trial"])
        if trial.relaxation is None:
            parse(trial.expression)
        result = None if row["result"] is None else TrialResult.from_json(row["result"])
    except (ParseError, KeyError, TypeError, ValueError) as error:
        yield f"it cannot be read ({type(error).__name__}: {str(error)[:200]})"
        return
    for name in ("function_key", "formula"):
        if not isinstance(row[name], str):
            yield f"its {name} is no text"
    for name in ("id", "stage", "expression", "seed", "setting"):
        if getattr(trial, name) != row.get(name):  # stores of version 2 have no setting
            yield f"its {name} is {row.get(name)!r} in the table and {getattr(trial, name)!r} in the trial"
    running = row["state"] == TrialState.RUNNING
    if running != (result is None) or running != (row["finished"] is None):
        yield f"it is {row['state']}, and has {'no result' if result is None else 'a result'}"
    elif result is not None:
        if result.state != row["state"]:
            yield f"it is {row['state']} in the table and {result.state} in its result"
        for name in ("val_accuracy", "val_loss"):
            if result.metrics.get(name) != row[name]:
                yield f"its {name} is {row[name]} in the table and {result.metrics.get(name)} in its result"


def _order_faults(rows: list[Row]) -> Iterator[str]:
    if sorted(row["id"] for row in rows) != list(range(1, len(rows) + 1)):
        yield f"trials are numbered from 1 to {len(rows)}, and some number is missing or too large"
    moments = [row[name] for row in rows for name in ("launched", "finished") if row[name] is not None]
    twice = [moment for moment, times in Counter(moments).items() if times > 1]
    if twice:
        yield f"two events have the same number: {sorted(twice)[:5]}"
    for row in rows:
        if row["finished"] is not None and row["finished"] <= row["launched"]:
            yield f"trial {row['id']} ended before it began"


def _double_faults(rows: list[Row]) -> Iterator[str]:
    """A function is searched once, retrained once with every seed, confirmed so in every setting."""
    same: dict[tuple[object, ...], list[object]] = {}
    for row in rows:
        same.setdefault((row["stage"], row["function_key"], row["seed"], row["setting"]), []).append(row["id"])
    for (stage, _, seed, _), numbers in same.items():
        if len(numbers) > 1:
            yield f"one function has {len(numbers)} trials of stage {stage} with seed {seed}: {numbers}"
