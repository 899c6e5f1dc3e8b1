"""The rows of a leaderboard for a page: which are wanted, in which order, and what stands in their cells."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from dash import html

from analysis.comparisons import outcome
from analysis.filters import Wanted
from analysis.leaderboard import STATE_ORDER
from analysis.wording import kind
from nas.dashboard.elements import STATES, badge, spread, state_word
from nas.dashboard.studies import Snapshot
from trainers.trial import DIRECTIONS

ROWS = 25
"""On one page."""
_MERGED = ("accuracy", "loss", "bpb")


@dataclass(frozen=True)
class Column:
    """A column of the page.

    Attributes:
        header: its title.
        meaning: what it is, in a sentence.
        cell: what stands in it, for a row.
        numeric: whether it stands at the right.
        best_is_large: whether the best has the largest value; None: the objective says so.
    """

    header: str
    meaning: str
    cell: Callable[[dict[str, Any]], Any]
    numeric: bool = True
    best_is_large: bool | None = False


def _metric(kind: str) -> Callable[[dict[str, Any]], str]:
    return lambda row: spread(kind, row[kind], row[f"{kind}_std"])


def _whole(name: str) -> Callable[[dict[str, Any]], str]:
    return lambda row: "" if row[name] is None else f"{int(row[name]):,}"


def _seeds(row: dict[str, Any]) -> str:
    return f"{row['n_seeds']} of {row['n_seeds'] + row['n_failed']}" if row["n_failed"] else str(row["n_seeds"] or "")


def _said(row: dict[str, Any]) -> str | None:
    """``better`` or ``worse`` than ReLU, where that is sure."""
    said = outcome(row, "vs_relu")
    return said if said in ("better", "worse") else None


def _difference(row: dict[str, Any]) -> Any:
    if row["name"] == "ReLU":
        return "reference"
    text = spread(kind(row["metric"]), row["vs_relu"], row["vs_relu_ci95"], "+")
    return html.B(text, className=said) if (said := _said(row)) else text


def _sure(row: dict[str, Any]) -> Any:
    if said := _said(row):
        return html.B(said, className=said)
    seeds = None if row["name"] == "ReLU" else row["vs_relu_seeds"]
    return "" if seeds is None else "> 1000 seeds" if math.isinf(seeds) else f"{seeds:.0f} seeds"


def _cost(row: dict[str, Any]) -> str:
    return "" if row["cost"] is None else f"{row['cost']:.2f}"


def _time(row: dict[str, Any]) -> str:
    return "" if row["seconds"] is None else f"{row['seconds']:,.1f}"


def _state(row: dict[str, Any]) -> Any:
    return badge(state_word(row["state"], row["stage"]), row["state"].lower())


_HELD_OUT = "mean ± standard deviation over seeds, on data held out from training; of confirmed ones on the test set"
COLUMNS = {
    "rank": Column("#", "place in the study, 1 is best", _whole("rank")),
    "formula": Column("function", "a simple spelling, and what it is like", lambda row: row["formula"], False),
    "accuracy": Column("acc %", _HELD_OUT, _metric("accuracy"), best_is_large=True),
    "loss": Column("loss", f"cross-entropy, nats: {_HELD_OUT}", _metric("loss")),
    "bpb": Column("bpb", f"bits a byte: {_HELD_OUT}", _metric("bpb")),
    "n_seeds": Column("n", "trainings behind the means", _seeds, best_is_large=True),
    "vs_relu": Column("vs ReLU", "difference ± 95 % interval over matched seeds", _difference, best_is_large=None),
    "vs_relu_holm": Column(
        "sure", "better or worse than ReLU, corrected for all functions; else the seeds it would take", _sure
    ),
    "complexity": Column("nodes", "of the expression", _whole("complexity")),
    "cost": Column("x ReLU", "time of its forward and backward pass, where it was measured", _cost),
    "parameters": Column("params", "trained values in the model", _whole("parameters")),
    "seconds": Column("s", "mean time of a training", _time),
    "state": Column("state", "what became of it", _state, False),
}


def columns_of(table: pd.DataFrame) -> list[str]:
    """The columns that say something about these rows."""
    missing = {"bpb": table[["val_bpb", "test_bpb"]], "cost": table[["cost"]]}
    return [name for name in COLUMNS if name not in missing or missing[name].notna().any(axis=None)]


@dataclass(frozen=True)
class Query:
    """What somebody wants to see of a leaderboard.

    Attributes:
        text: that the formula or the likeness contains.
        family: one of analysis.filters.FAMILIES.
        state: what became of them; confirmed and retrained ones too.
        max_nodes: of the expression.
        only: any of "confirmed", "pareto" (no other one is both better and smaller) and "found" (no baselines).
        setting: where they were confirmed.
        sort: a column.
        turned: worst first.
    """

    text: str | None = None
    family: str | None = None
    state: str | None = None
    max_nodes: float | None = None
    only: tuple[str, ...] = field(default=())
    setting: str | None = None
    sort: str = "rank"
    turned: bool = False


def find(study: Snapshot, query: Query) -> pd.DataFrame:
    """The rows that are wanted, in that order. What a browser sends may be anything: what is unknown is passed over."""
    setting = query.setting if query.setting in study.settings else None
    nodes = int(query.max_nodes) if query.max_nodes is not None and 0 < query.max_nodes < 1e9 else None
    rows = Wanted(query.family or None, nodes, confirmed="confirmed" in query.only).of(
        study.leaderboard(setting=setting)
    )
    if query.text:
        rows = rows[_mentions(rows, query.text)]
    if query.state in STATES:
        rows = rows[rows["state"] == query.state]
    if "found" in query.only:
        rows = rows[rows["found"].astype(bool)]
    if "pareto" in query.only:
        rows = Wanted(pareto="complexity").of(rows)
    return _sorted(merged(rows), query, study.objective).reset_index(drop=True)


def _mentions(rows: pd.DataFrame, text: str) -> pd.Series:
    both = rows["formula"].astype(str) + " " + rows["likeness"].fillna("").astype(str)
    return both.str.contains(text.strip(), regex=False, case=False)


def merged(rows: pd.DataFrame) -> pd.DataFrame:
    """With metrics of the test set for confirmed functions and of held out data for the others."""
    confirmed = rows["stage"] == "confirm"
    found = {
        f"{kind}{end}": rows[f"test_{kind}{end}"].where(confirmed, rows[f"val_{kind}{end}"])
        for kind in _MERGED
        for end in ("", "_std")
    }
    return rows.assign(**found)


def _sorted(rows: pd.DataFrame, query: Query, objective: str) -> pd.DataFrame:
    """Complete ones first, as everywhere, unless the worst are wanted."""
    if query.sort not in COLUMNS or rows.empty or (query.sort == "rank" and not query.turned):
        return rows
    if query.sort in ("rank", "formula"):
        return rows.sort_values(query.sort, ascending=not query.turned, kind="stable")
    large = COLUMNS[query.sort].best_is_large
    best_is_large = DIRECTIONS[objective] == "max" if large is None else large
    rows = rows.assign(_state=rows["state"].map(STATE_ORDER))
    by = ["_state"] if query.sort == "state" else ["_state", query.sort]
    ascending = [not query.turned] if query.sort == "state" else [True, best_is_large == query.turned]
    return rows.sort_values(by, ascending=ascending, kind="stable", na_position="last").drop(columns="_state")


def page_of(rows: pd.DataFrame, page: int, size: int = ROWS) -> tuple[pd.DataFrame, int, int]:
    """The rows of a page, its number from 0 as far as there are so many, and how many pages there are."""
    pages = max(1, math.ceil(len(rows) / size))
    page = min(max(0, page), pages - 1)
    return rows.iloc[page * size : (page + 1) * size], page, pages
