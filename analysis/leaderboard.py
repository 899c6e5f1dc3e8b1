"""The leaderboard of a study: one row a function, seeds aggregated, best first.

A function that was retrained is judged by its fresh seeds alone: the seed of the search stage, by which it was picked
out, flatters it. Retrained functions come first, those with a failed seed behind the others; then what completed in the
search stage alone, then pruned and failed ones.
"""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
from scipy import stats

from analysis.store import Store
from search_spaces.expression import size
from search_spaces.parser import parse
from trainers.trial import METRICS, TrialResult, TrialState

COLUMNS = {
    "rank": "position, 1 is best",
    "formula": "the activation function",
    "name": "its name, if it is a known one",
    "likeness": "the known function that it is (=), up to scale, shift and reflection, or nearly is (~); Swish family",
    "val_accuracy": "mean over seeds, 0 to 1",
    "val_accuracy_std": "standard deviation over seeds",
    "val_loss": "mean cross-entropy over seeds, nats",
    "val_loss_std": "standard deviation over seeds",
    "val_bpb": "mean bits per byte over seeds, for text",
    "val_bpb_std": "standard deviation over seeds",
    "n_seeds": "number of trainings behind the means",
    "n_failed": "number of failed retrainings, which are in no mean",
    "metric": "the study's objective, by which functions are ranked",
    "value": "mean of that metric over seeds",
    "value_std": "standard deviation over seeds",
    "vs_relu": "mean difference to ReLU in that metric over matched seeds",
    "vs_relu_ci95": "half-width of its 95 % interval (paired t)",
    "parameters": "trained values in the model, the activation's included",
    "seconds": "mean time of a training",
    "complexity": "number of nodes of the expression",
    "cost": "time of its forward and backward pass as a multiple of ReLU's, where the search measured it",
    "front": "whether no function is both better and cheaper; None if the search had no cost",
    "found": "whether the search, or the study that it started from, proposed it; false for a mere baseline",
    "state": "COMPLETE, PRUNED, FAIL or RUNNING",
    "stage": "the stage that the figures come from",
    "seeds": "the seeds, in order",
    "reason": "why, for a failure",
    "function_key": "equal for equal functions of the study",
    "expression": "the expression as it was trained",
}
"""Columns of the leaderboard and what they mean."""

SORT_KEYS = (
    "rank",
    "val_accuracy",
    "val_loss",
    "val_bpb",
    "vs_relu",
    "seconds",
    "complexity",
    "cost",
    "parameters",
    "formula",
)
_STATE_ORDER = {"COMPLETE": 0, "RUNNING": 1, "PRUNED": 2, "FAIL": 3}


def trials(store: Store) -> pd.DataFrame:
    """All trials of a study, one row each; metrics are those of the last report."""
    rows = []
    for record in store.records():
        trial, result = record.trial, record.result or TrialResult(TrialState.RUNNING)
        row = {name: getattr(record, name) for name in ("function_key", "formula", "known_name", "likeness")}
        row |= {name: getattr(trial, name) for name in ("id", "stage", "expression", "seed")}
        row |= {name: getattr(result, name) for name in ("parameters", "reason")}
        row["cost"] = math.nan if result.cost is None else result.cost
        row |= {name: result.metrics.get(name, math.nan) for name in METRICS}
        rows.append({**row, "state": str(result.state), "seconds": result.seconds if record.result else math.nan})
    return pd.DataFrame(rows)


def to_records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as dictionaries, with None where pandas has NaN."""
    return [
        {str(key): None if isinstance(value, float) and math.isnan(value) else value for key, value in row.items()}
        for row in table.to_dict("records")
    ]


def leaderboard(store: Store, sort: str = "rank") -> pd.DataFrame:
    """The leaderboard with the columns :data:`COLUMNS`; ranks follow the study's objective.

    Args:
        sort: one of :data:`SORT_KEYS`; every other order than by rank puts the best, or the smallest cost, first.
    """
    everything = trials(store)
    if len(everything):
        everything = everything[everything["stage"] != "relax"]
    if everything.empty:
        return pd.DataFrame(columns=list(COLUMNS))
    search = store.get("config", {}).get("search", {})
    metric = search.get("objective", "val_accuracy")
    relu = _relu_values(everything, metric)
    earlier = set(store.get("known_keys", []))
    rows = [_aggregate(group, metric, relu, earlier) for _, group in everything.groupby("function_key", sort=False)]
    table = pd.DataFrame(rows)
    table = table.assign(
        _state=table["state"].map(_STATE_ORDER),
        _stage=table["stage"] != "retrain",
        _failed=table["n_failed"] > 0,
        _metric=table[metric].astype(float) * (-1 if METRICS[metric] == "max" else 1),
    )
    table = table.sort_values(["_state", "_stage", "_failed", "_metric", "val_loss"], kind="stable")
    table.insert(0, "rank", range(1, len(table) + 1))
    table["front"] = _front(table, {"complexity": "complexity", "time": "cost"}.get(search.get("cost")))
    if sort != "rank":
        descending = sort == "val_accuracy" or (sort == "vs_relu" and METRICS[metric] == "max")
        table = table.sort_values(["_state", sort], ascending=[True, not descending], kind="stable", na_position="last")
    return table[list(COLUMNS)].reset_index(drop=True)


def _front(table: pd.DataFrame, cost: str | None) -> list[bool | None]:
    """For a table in the order of rank: which complete functions are cheaper than every better one."""
    if cost is None:
        return [None] * len(table)
    cheapest = math.inf
    front: list[bool | None] = []
    for state, value in zip(table["state"], table[cost], strict=True):
        front.append(bool(state == "COMPLETE" and value < cheapest))
        cheapest = min(cheapest, value) if state == "COMPLETE" else cheapest
    return front


def _relu_values(everything: pd.DataFrame, metric: str) -> dict[int, float]:
    """The metric of ReLU by seed, from the retrain stage."""
    is_relu = (everything["known_name"] == "ReLU") & (everything["stage"] == "retrain")
    rows = everything[is_relu & (everything["state"] == "COMPLETE")]
    return dict(zip(rows["seed"], rows[metric], strict=True))


def _aggregate(group: pd.DataFrame, metric: str, relu: dict[int, float], earlier: set[str]) -> dict[str, Any]:
    """One function's row from its trials: the retrained ones if any is complete, else those of the search stage."""
    retrained = group[(group["stage"] == "retrain") & (group["state"] == "COMPLETE")]
    failed = (group["stage"] == "retrain") & (group["state"] == "FAIL")
    used = retrained if len(retrained) else group[group["stage"] == group["stage"].iloc[0]]
    complete = used[used["state"] == "COMPLETE"]
    used = complete if len(complete) else used
    first = used.iloc[0]
    seeds = [s for s in used["seed"] if s in relu] if len(retrained) else []  # the search stage has no ReLU to match
    difference, interval = paired_interval([used.loc[used["seed"] == s, metric].iloc[0] - relu[s] for s in seeds])
    return {
        "formula": first["formula"],
        "name": first["known_name"],
        "likeness": first["likeness"],
        **{name: used[name].mean() for name in METRICS},
        **{f"{name}_std": used[name].std() if len(used) > 1 else math.nan for name in METRICS},
        "n_seeds": len(complete),
        "n_failed": int(failed.sum()),
        "metric": metric,
        "value": used[metric].mean(),
        "value_std": used[metric].std() if len(used) > 1 else math.nan,
        "vs_relu": difference,
        "vs_relu_ci95": interval,
        "parameters": first["parameters"],
        "seconds": used["seconds"].mean(),
        "complexity": size(parse(first["expression"])),
        "cost": group["cost"].mean(),
        "found": bool((group["stage"] == "search").any()) or first["function_key"] in earlier,
        "state": first["state"],
        "stage": first["stage"],
        "seeds": used["seed"].tolist(),
        "reason": first["reason"],
        "function_key": first["function_key"],
        "expression": first["expression"],
    }


def paired_interval(differences: list[float], level: float = 0.95) -> tuple[float, float]:
    """Mean of paired differences and the half-width of its t interval; NaN where there are too few.

    Differences that are NaN, of trainings without a value, do not count.
    """
    differences = [d for d in differences if not math.isnan(d)]
    n = len(differences)
    if n == 0:
        return math.nan, math.nan
    series = pd.Series(differences)
    if n == 1:
        return float(series.mean()), math.nan
    half = float(stats.t.ppf((1 + level) / 2, n - 1)) * float(series.std()) / math.sqrt(n)
    return float(series.mean()), half
