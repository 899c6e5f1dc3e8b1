"""What a search tried, as tables to draw or to count in: functions, the order of trials, failures by reason."""

from __future__ import annotations

import re
from functools import lru_cache

import numpy as np
import pandas as pd

from analysis.study import Study
from analysis.wording import shorten
from search_spaces.expression import Expression
from search_spaces.parser import ParseError, parse
from trainers.trial import DIRECTIONS

SEARCH, RETRAIN = "search", "retrain"
_NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:[.,]\d+)*(?:e[-+]?\d+)?(?![\w])", re.ASCII)


def larger_is_better(study: Study) -> bool:
    return DIRECTIONS[study.objective] == "max"


def searched(study: Study) -> pd.DataFrame:
    """A row a function that the search trained to an end, by its first training: all under the same conditions.

    Besides columns of the trials there is ``value``, of the objective, and ``place``, a rank in which larger is
    better: completed functions by value, below them the pruned ones, which share a place (they were stopped at
    different moments, so their values cannot be compared), at the bottom the failed ones.
    """
    trials = study.trials
    rows = trials[(trials["stage"] == SEARCH) & trials["setting"].isna() & (trials["state"] != "RUNNING")]
    rows = rows.drop_duplicates("function_key").reset_index(drop=True)
    rows["value"] = rows[study.objective].astype(float)
    sign = 1.0 if larger_is_better(study) else -1.0
    complete = (rows["state"] == "COMPLETE") & np.isfinite(rows["value"])
    order = (sign * rows["value"]).where(complete)
    order = order.rank(method="average") + 2
    rows["place"] = order.fillna(rows["state"].map({"PRUNED": 1.0})).fillna(0.0).rank(method="average")
    return rows


def best_part(functions: pd.DataFrame, share: float = 0.1) -> pd.DataFrame:
    """The best tenth of all functions that were searched, completed ones only; the best first."""
    complete = functions[(functions["state"] == "COMPLETE") & np.isfinite(functions["value"])]
    count = min(int(np.ceil(share * len(functions))), len(complete))
    return complete.sort_values("place", ascending=False, kind="stable").head(count)


def in_order(study: Study) -> pd.DataFrame:
    """Trials of the search and of its retraining in the order of their end.

    With ``number`` from 1 on, ``value`` of the objective, and ``best``, the best value so far of a function that
    completed the search stage.
    """
    trials = study.trials
    rows = trials[trials["stage"].isin([SEARCH, RETRAIN]) & trials["setting"].isna() & trials["finished"].notna()]
    rows = rows.sort_values("finished", kind="stable").reset_index(drop=True)
    rows["number"] = np.arange(1, len(rows) + 1)
    rows["value"] = rows[study.objective].astype(float).replace([np.inf, -np.inf], np.nan)
    counted = rows["value"].where((rows["state"] == "COMPLETE") & (rows["stage"] == SEARCH))
    running = counted.cummax() if larger_is_better(study) else counted.cummin()
    return rows.assign(best=running.ffill())


def failures_by_reason(study: Study) -> pd.DataFrame:
    """Sentences in which only numbers differ are one: ``pattern``, ``trials``, ``functions``, one of them as
    ``example``; most frequent first."""
    failed = study.trials[study.trials["state"] == "FAIL"]
    reasons = failed["reason"].fillna("no reason is recorded")
    patterns = reasons.map(lambda text: _NUMBER.sub("N", shorten(text, 160)))
    groups = failed.assign(pattern=patterns, example=reasons.map(lambda text: shorten(text, 160))).groupby("pattern")
    table = groups.agg(trials=("id", "size"), functions=("function_key", "nunique"), example=("example", "first"))
    return table.reset_index().sort_values(["trials", "pattern"], ascending=[False, True], ignore_index=True)


@lru_cache(maxsize=65_536)
def read(formula: str, expression: str) -> Expression | None:
    """The function in its simple spelling, else as it was trained; None if neither can be read."""
    for text in (formula, expression):
        try:
            return parse(text)
        except (ParseError, ValueError):
            continue
    return None


def parsed(functions: pd.DataFrame) -> pd.Series:
    """The expressions of some rows with ``formula`` and ``expression``; None for one that cannot be read."""
    found = [read(f, e) for f, e in zip(functions["formula"], functions["expression"], strict=True)]
    return pd.Series(found, index=functions.index, dtype=object)
