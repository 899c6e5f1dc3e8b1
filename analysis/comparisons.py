"""Every function that was trained with fresh seeds against ReLU and SiLU, and against all others at once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis.stats import bootstrap_interval, holm, paired, probability_best, seeds_needed
from trainers.trial import DIRECTIONS

REFERENCES = {"vs_relu": "ReLU", "vs_silu": "SiLU"}
SURE = 0.05
"""A corrected p value below it is called a difference."""
_STAGES = ("confirm", "retrain")
_SCALARS = ("value_low", "value_high", "race", "p_best")
_DIFFERENCE = ("", "_ci95", "_p", "_holm", "_seeds")


def compare(rows: pd.DataFrame, table: pd.DataFrame, objective: str) -> pd.DataFrame:
    """Columns for a leaderboard, by function; missing for functions without fresh seeds.

    Args:
        rows: trials of the study.
        table: with ``function_key`` and the ``stage`` and ``metric`` by which each function is judged.
        objective: of the study; says which way is better.
    """
    names = [*_SCALARS, *(f"{reference}{part}" for reference in REFERENCES for part in _DIFFERENCE)]
    compared = pd.DataFrame(math.nan, index=pd.Index([], name="function_key"), columns=names)
    parts = [
        _of_stage(rows, judged, judged["metric"].iloc[0], stage, DIRECTIONS[objective] == "max")
        for stage in _STAGES
        if len(judged := table[(table["stage"] == stage) & (table["state"] == "COMPLETE")])
    ]
    return pd.concat(parts)[names] if parts else compared


def outcome(row: Mapping[str, Any] | pd.Series, column: str) -> str:
    """``better`` or ``worse`` if the p value, corrected by Holm's method, says so, ``open`` if it does not, else
    ``unknown``.

    Args:
        row: of a leaderboard.
        column: ``vs_relu`` or ``vs_silu``.
    """
    p = row[f"{column}_holm"]
    if p is None or pd.isna(p):
        return "unknown"
    if p >= SURE:
        return "open"
    return "better" if (row[column] > 0) == (DIRECTIONS[row["metric"]] == "max") else "worse"


def _of_stage(rows: pd.DataFrame, judged: pd.DataFrame, metric: str, stage: str, larger: bool) -> pd.DataFrame:
    complete = rows[(rows["stage"] == stage) & (rows["state"] == "COMPLETE")]
    results = complete.pivot_table(index="function_key", columns="seed", values=metric, dropna=False)
    references = {name: _results_of(complete, results, name) for name in REFERENCES.values()}
    results = results.reindex(judged["function_key"])
    race = _race(rows, stage, references["ReLU"] is not None)
    found = pd.DataFrame(index=results.index)
    intervals = [bootstrap_interval(list(values)) for values in results.to_numpy()]
    found["value_low"], found["value_high"] = zip(*intervals, strict=True)
    found["race"] = race
    found["p_best"] = probability_best(results if larger else -results)
    for column, name in REFERENCES.items():
        found = found.join(_differences(results, references[name], race).add_prefix(column))
    return found


def _race(rows: pd.DataFrame, stage: str, has_reference: bool) -> int:
    """How many functions were compared. A confirmation has data of its own, and only its functions were in it;
    retrained functions were picked, by data that the retraining shares, out of all that were searched."""
    stages = [stage] if stage == "confirm" else [stage, "search"]
    functions = rows.loc[rows["stage"].isin(stages), "function_key"].nunique()
    return max(1, functions - has_reference)


def _results_of(complete: pd.DataFrame, results: pd.DataFrame, name: str) -> dict[int, float] | None:
    """A known function's results by seed."""
    keys = complete.loc[complete["name"] == name, "function_key"]
    return None if keys.empty else _by_seed(results.loc[keys.iloc[0]])


def _by_seed(values: pd.Series) -> dict[int, float]:
    return {int(str(seed)): float(value) for seed, value in values.dropna().items()}


def _differences(results: pd.DataFrame, reference: dict[int, float] | None, race: int) -> pd.DataFrame:
    table = pd.DataFrame(math.nan, index=results.index, columns=list(_DIFFERENCE))
    if reference is None:
        return table
    differences = [paired(_by_seed(values), reference) for _, values in results.iterrows()]
    table[""] = [d.mean for d in differences]
    table["_ci95"] = [d.half_width for d in differences]
    table["_p"] = [d.p for d in differences]
    table["_holm"] = holm(table["_p"], race)
    table["_seeds"] = [seeds_needed(d.mean, d.std, race) for d in differences]
    return table
