"""Points of curves to draw: functions with their slopes, and learning curves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.study import Study
from analysis.wording import factor
from search_spaces.expression import Expression, params
from search_spaces.values import values_and_slopes

Floats = NDArray[np.float64]
_POINTS = 801
_RANGE = 5.0
_STAGES = ("retrain", "search", "confirm")
"""Where learning curves are taken from: fresh seeds with figures of validation, if there are any."""


def sample(expressions: Sequence[Expression]) -> tuple[Floats, Floats, Floats]:
    """x on [-5, 5], and values and slopes, a row a function; learnable parameters have their initial value 1."""
    x = np.linspace(-_RANGE, _RANGE, _POINTS) + 1e-9  # not exactly on 0, where slopes may jump
    names = {name: 1.0 for expression in expressions for name in params(expression)}
    return x, *values_and_slopes(list(expressions), x, names)


def broken(y: Floats) -> Floats:
    """NaN where a curve jumps or is infinite, so that no vertical line is drawn there."""
    y = np.where(np.isfinite(y), y, np.nan)
    return np.where(np.abs(np.diff(y, prepend=y[0])) > 0.4, np.nan, y)


def window(rows: Floats) -> tuple[float, float]:
    """Limits that show the interesting part: what lies within ±6, with a margin."""
    finite = np.clip(rows[np.isfinite(rows)], -6, 6)
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (-1.0, 1.0)
    margin = 0.06 * max(high - low, 0.5)
    return low - margin, high + margin


def learning(study: Study, rows: pd.DataFrame) -> tuple[str, pd.DataFrame]:
    """A metric, and reports of it: ``function_key``, ``id`` of the trial, ``epoch``, and the metric.

    The metric is the study's objective; where nothing was reported of it, the training loss. Of every function the
    stage with fresh seeds counts, else the search.

    Args:
        study: whose learning curves.
        rows: of its leaderboard.
    """
    nothing = study.objective, pd.DataFrame(columns=["function_key", "id", "epoch", study.objective])
    if study.epochs.empty or rows.empty:
        return nothing
    trials = study.trials[["id", "stage", "setting", "function_key", "state"]]
    trials = trials[trials["setting"].isna() & (trials["state"] == "COMPLETE")]
    trials = trials[trials["function_key"].isin(rows["function_key"])]
    reports = study.epochs.merge(trials, on="id")
    for metric in (study.objective, "train_loss"):
        if metric not in reports:
            continue
        found = reports[reports[metric].notna()]
        if found.empty:
            continue
        order = found["stage"].map({stage: number for number, stage in enumerate(_STAGES)}).fillna(len(_STAGES))
        found = found[order == order.groupby(found["function_key"]).transform("min")]
        place = {key: number for number, key in enumerate(rows["function_key"])}
        found = found.assign(_place=found["function_key"].map(place)).sort_values(["_place", "id", "epoch"])
        return metric, found[["function_key", "id", "epoch", metric]]
    return nothing


def joined(part: pd.DataFrame, metric: str) -> tuple[list[float], list[float]]:
    """All seeds' curves as one line with gaps between them, in the unit that is shown."""
    x: list[float] = []
    y: list[float] = []
    for _, trial in part.groupby("id"):
        x += [*trial["epoch"].astype(float), np.nan]
        y += [*(factor(metric) * trial[metric].astype(float)), np.nan]
    return x, y
