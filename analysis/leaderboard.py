"""The leaderboard of a study: one row a function, seeds aggregated, best first.

A function that was confirmed is judged by the test set; one that was retrained, by its fresh seeds alone: the seed of
the search stage, by which it was picked out, flatters it. Confirmed functions come first, then retrained ones, those
with a failed seed behind the others; then what completed in the search stage alone, then pruned and failed ones.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from analysis.comparisons import compare
from analysis.store import Store
from analysis.trials import read_trials
from trainers.trial import DIRECTIONS

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
    "test_accuracy": "the same on the test set, of functions that were confirmed; these have no figures of validation",
    "test_accuracy_std": "standard deviation over seeds",
    "test_loss": "mean cross-entropy over seeds, nats",
    "test_loss_std": "standard deviation over seeds",
    "test_bpb": "mean bits per byte over seeds, for text",
    "test_bpb_std": "standard deviation over seeds",
    "n_seeds": "number of trainings behind the means",
    "n_failed": "number of failed trainings with fresh seeds, which are in no mean",
    "metric": "what functions are ranked by: the study's objective, on the test set where they were confirmed",
    "value": "mean of that metric over seeds",
    "value_std": "standard deviation over seeds",
    "value_low": "lower end of the mean's 95 % bootstrap interval (BCa), from three seeds on",
    "value_high": "its upper end",
    "vs_relu": "mean difference to ReLU in that metric over matched seeds",
    "vs_relu_ci95": "half-width of its 95 % interval (paired t); missing where the differences have no spread",
    "vs_relu_p": "p value of the paired t test",
    "vs_relu_holm": "the same, corrected by Holm's method over all functions that were in the race",
    "vs_relu_seeds": "matched seeds that would show it (power 80 %) if it is as large as it looks; inf: over 1,000",
    "vs_silu": "as vs_relu, of SiLU",
    "vs_silu_ci95": "as vs_relu_ci95",
    "vs_silu_p": "as vs_relu_p",
    "vs_silu_holm": "as vs_relu_holm",
    "vs_silu_seeds": "as vs_relu_seeds",
    "race": "functions that were in the race: all searched ones for a retrained one, all confirmed for a confirmed one",
    "p_best": "probability that it is the best of its stage",
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
    "test_accuracy",
    "test_loss",
    "test_bpb",
    "vs_relu",
    "vs_silu",
    "p_best",
    "seconds",
    "complexity",
    "cost",
    "parameters",
    "formula",
)
COSTS = {"complexity": "complexity", "time": "cost"}
"""The column of what a search wants to be small."""
STATE_ORDER = {"COMPLETE": 0, "RUNNING": 1, "PRUNED": 2, "FAIL": 3}
_FRESH = ("confirm", "retrain")
"""Stages with seeds of their own, the one that says most first."""


def leaderboard(store: Store, sort: str = "rank") -> pd.DataFrame:
    """The leaderboard with the columns :data:`COLUMNS`; ranks follow the study's objective.

    Args:
        store: of the study.
        sort: one of :data:`SORT_KEYS`; every other order than by rank puts the best, or the smallest cost, first.

    Raises:
        StoreError: the study is damaged.
    """
    search = store.get("config", {}).get("search", {})
    return of_trials(
        read_trials(store),
        objective=search.get("objective", "val_accuracy"),
        cost=COSTS.get(search.get("cost")),
        earlier=set(store.get("known_keys", [])),
        sort=sort,
    )


def of_trials(
    trials: pd.DataFrame,
    *,
    objective: str,
    cost: str | None = None,
    earlier: set[str] | None = None,
    sort: str = "rank",
    setting: str | None = None,
) -> pd.DataFrame:
    """The leaderboard of a table of trials.

    Args:
        trials: as of :func:`analysis.trials.read_trials`; relaxed networks are passed over.
        objective: the metric to rank by.
        cost: the column that was to be small beside it.
        earlier: keys of functions that an earlier study had found.
        sort: as of :func:`leaderboard`.
        setting: where functions were confirmed; None for the study's own model and data.
    """
    found = set(trials.loc[trials["stage"] == "search", "function_key"]) | (earlier or set())
    here = trials["setting"].isna() if setting is None else trials["setting"] == setting
    rows = trials[(trials["stage"] != "relax") & here]
    if rows.empty:
        return pd.DataFrame(columns=list(COLUMNS))
    table = _aggregate(_that_count(rows), rows, objective)
    table["found"] = [key in found for key in table["function_key"].tolist()]  # isin takes ten times as long
    table = table.join(compare(rows, table, objective), on="function_key")
    sign = -1 if DIRECTIONS[objective] == "max" else 1
    table = table.assign(
        _state=table["state"].map(STATE_ORDER),
        _stage=table["stage"].map({"confirm": 0, "retrain": 1}).fillna(2),
        _failed=table["n_failed"] > 0,
        _value=sign * table["value"],
        _loss=table["test_loss"].fillna(table["val_loss"]),
    )
    table = table.sort_values(["_state", "_stage", "_failed", "_value", "_loss"], kind="stable")
    table["rank"] = range(1, len(table) + 1)
    table["front"] = front(table, cost)
    if sort != "rank":
        table = table.sort_values(
            ["_state", sort], ascending=[True, not is_descending(sort, objective)], kind="stable", na_position="last"
        )
    return table[list(COLUMNS)].reset_index(drop=True)


def on_test_set(objective: str) -> str:
    """What a confirmation measures of it; of the training loss, the loss."""
    name = "test_" + objective.split("_")[1]
    return name if name in DIRECTIONS else "test_loss"


def is_descending(sort: str, objective: str) -> bool:
    """Whether the best has the largest value in a column of :data:`SORT_KEYS`."""
    if sort.startswith("vs_"):
        return DIRECTIONS[objective] == "max"
    return sort == "p_best" or DIRECTIONS.get(sort) == "max"


def front(table: pd.DataFrame, cost: str | None) -> list[bool | None]:
    """For a table in the order of rank: which complete functions are cheaper than every better one."""
    if cost is None:
        return [None] * len(table)
    costs = table[cost].astype(float).where(table["state"] == "COMPLETE", math.inf).fillna(math.inf).to_numpy()
    cheapest_before = np.concatenate([[math.inf], np.minimum.accumulate(costs)[:-1]])
    return [bool(cheaper) for cheaper in costs < cheapest_before]


def _that_count(rows: pd.DataFrame) -> pd.DataFrame:
    """Of every function the trials that its figures come from: of the stage that says most, complete ones if any is."""
    complete = rows["state"] == "COMPLETE"
    order = pd.Series(len(_FRESH), index=rows.index)
    for place, stage in reversed(list(enumerate(_FRESH))):
        order[complete & (rows["stage"] == stage)] = place
    functions = rows["function_key"]
    best = order.groupby(functions, sort=False).transform("min")
    first_stage = rows["stage"].groupby(functions, sort=False).transform("first")
    of_stage = (order == best) & ((best < len(_FRESH)) | (rows["stage"] == first_stage))
    some_complete = (complete & of_stage).groupby(functions, sort=False).transform("any")
    return rows[of_stage & (complete | ~some_complete)]


def _listed(keys: pd.Series, values: pd.Series) -> pd.Series:
    """All values of each key, in their order; pandas takes ten times as long for 20,000 functions."""
    found: dict[str, list[int]] = {}
    for key, value in zip(keys.tolist(), values.tolist(), strict=True):
        found.setdefault(key, []).append(value)
    return pd.Series(found, dtype=object)


def _aggregate(used: pd.DataFrame, rows: pd.DataFrame, objective: str) -> pd.DataFrame:
    """A row a function, without its comparisons."""
    confirmed = used["stage"] == "confirm"
    used = used.assign(value=used[objective].where(~confirmed, used[on_test_set(objective)]))
    shown = [name for name in DIRECTIONS if name.startswith(("val", "test"))]
    functions = used.groupby("function_key", sort=False)
    first = functions.first()  # passes over what is missing
    table = first[["formula", "name", "likeness", "parameters", "complexity", "state", "stage", "reason", "expression"]]
    measured = functions[[*shown, "value"]]
    table = table.join(measured.mean()).join(measured.std().add_suffix("_std"))
    everything = rows.groupby("function_key", sort=False)
    failed = (rows["state"] == "FAIL") & rows["stage"].isin(_FRESH)
    stage_of = rows["function_key"].map(table["stage"])
    failed &= (rows["stage"] == stage_of) | ~stage_of.isin(_FRESH)
    table = table.assign(
        seconds=functions["seconds"].mean(),
        seeds=_listed(used["function_key"], used["seed"]),
        n_seeds=(used["state"] == "COMPLETE").groupby(used["function_key"], sort=False).sum(),
        n_failed=failed.groupby(rows["function_key"], sort=False).sum(),
        cost=everything["cost"].mean(),
        metric=np.where(table["stage"] == "confirm", on_test_set(objective), objective),
    )
    return table.reset_index()
