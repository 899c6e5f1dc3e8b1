"""Leaderboards as tables of a report."""

from __future__ import annotations

import math

import pandas as pd

from analysis.comparisons import SURE
from analysis.intervals import with_intervals
from analysis.report.parts import Table
from analysis.study import Study
from analysis.trials import to_records
from analysis.wording import as_number, kind, label, likeness, of_kind, part, prose, shorten, shown

_STAGES = {"confirm": "confirmed", "retrain": "retrained", "search": "searched"}
_STATES = {"RUNNING": "unfinished", "PRUNED": "pruned", "FAIL": "failed"}
_FORMULA = 160
_AGAINST = (("vs_relu", "ReLU"), ("vs_silu", "SiLU"))


def board_table(rows: pd.DataFrame) -> Table:
    """Rows of a leaderboard; columns that are empty for all of them are left out."""
    metrics = list(dict.fromkeys(rows["metric"]))
    intervals = {str(metric): with_intervals(rows[rows["metric"] == metric]) for metric in metrics}
    ends = {
        row["function_key"]: f"{shown(row['low'], metric)} to {shown(row['high'], metric)}"
        for metric, table in intervals.items()
        for _, row in table.iterrows()
        if row["n_seeds"] > 1
    }
    kinds = list(dict.fromkeys(kind(str(metric)) for metric in metrics))
    single = label(str(metrics[0])) if len(metrics) == 1 else of_kind(kinds[0]) if len(kinds) == 1 else "value"
    after = ("95 %", "seeds", "stage", "vs ReLU", "p", "vs SiLU", "p", "nodes", "cost")
    header = ("#", "formula", "known as", single, "of", *after)
    compared = rows.assign(
        **{f"{column}_any": bool(rows.loc[rows["name"] != name, column].notna().any()) for column, name in _AGAINST}
    )
    body = tuple(_cells(row, ends, len(kinds) > 1) for row in to_records(compared))
    cost = " Cost: times ReLU's, forward and backward." if rows["cost"].notna().any() else ""
    caption = (
        f"{_where(rows)}vs: mean difference over matched seeds ± 95 % interval; p: paired t test, by Holm's method "
        f"over all in the race. * marks p < {SURE}.{cost}"
    )
    return Table(header, body, code=(1,), caption=caption).without_empty_columns()


def short_table(rows: pd.DataFrame) -> Table:
    """The same for a page of text: who is better, by how much, and how sure that is."""
    metrics = list(dict.fromkeys(rows["metric"]))
    header = ("#", "function", "is", label(str(metrics[0])) if len(metrics) == 1 else "value", "seeds")
    body = tuple(
        (
            str(row["rank"]),
            shorten(row["formula"], _FORMULA),
            shorten(likeness(row) or row["name"] or "", 60),
            spread(row, several=len(metrics) > 1),
            str(row["n_seeds"]),
            *against(row, "vs_relu", "ReLU"),
            *against(row, "vs_silu", "SiLU"),
        )
        for row in to_records(rows)
    )
    return Table((*header, "vs ReLU", "p", "vs SiLU", "p"), body, code=(1,)).without_empty_columns()


def spread(row: dict[str, object], several: bool) -> str:
    """Mean and standard deviation over seeds; with the metric's name where rows have several."""
    metric = str(row["metric"])
    text, std = shown(row["value"], metric), shown(row["value_std"], metric)
    return (f"{text} ± {std}" if std else text) + (f" {prose(metric)}" if several else "")


def _where(rows: pd.DataFrame) -> str:
    """On which data the rows were judged."""
    parts = {stage: part(str(metric)) for stage, metric in zip(rows["stage"], rows["metric"], strict=True)}
    if len(set(parts.values())) < 2:
        return ""
    return "; ".join(f"{_STAGES[stage]}: {parts[stage]} data" for stage in _STAGES if stage in parts) + ". "


def _cells(row: dict[str, object], ends: dict[object, str], several: bool) -> tuple[str, ...]:
    metric = str(row["metric"])
    failed = as_number(row["n_failed"])
    seeds = f"{as_number(row['n_seeds']):.0f}" + (f" ({failed:.0f} failed)" if failed > 0 else "")
    known = shorten(likeness(row) or row["name"] or "", 60)
    stage, state = str(row["stage"]), str(row["state"])
    return (
        str(row["rank"]),
        shorten(row["formula"], _FORMULA),
        known if row["found"] else f"{known} (baseline)".strip(),
        shown(row["value"], metric),
        prose(metric) if several else "",
        ends.get(row["function_key"], ""),
        seeds,
        _STAGES.get(stage, stage) if state == "COMPLETE" else _STATES[state],
        *against(row, "vs_relu", "ReLU"),
        *against(row, "vs_silu", "SiLU"),
        "" if row["complexity"] is None else str(row["complexity"]),
        "" if row["cost"] is None else f"{as_number(row['cost']):.2f}",
    )


def against(row: dict[str, object], column: str, name: str) -> tuple[str, str]:
    """Difference with interval, and p."""
    metric, p = str(row["metric"]), as_number(row[f"{column}_holm"])
    if row["name"] == name:
        return "reference" if row.get(f"{column}_any", True) else "", ""
    text, half = shown(row[column], metric, sign=True), shown(row[f"{column}_ci95"], metric)
    star = "*" if p < SURE else ""
    return f"{text} ± {half}" if half else text, "" if math.isnan(p) else f"{p:.2g}{star}"


def transfer_table(study: Study) -> tuple[Table | None, int]:
    """Functions that were confirmed, a column a setting, and the number of settings; None if there is but one's own."""
    if not study.settings:
        return None, 1
    names: dict[str, str] = {}
    columns: dict[str, dict[str, str]] = {}
    for setting in (None, *study.settings):
        board = study.leaderboard(setting=setting)
        board = board[(board["stage"] == "confirm") & (board["state"] == "COMPLETE")]
        cells, metric = {}, ""
        for row in to_records(board):
            names.setdefault(row["function_key"], row["formula"] if row["name"] is None else row["name"])
            metric = str(row["metric"])
            difference, p = against(row, "vs_relu", "ReLU")
            value = f"{shown(row['value'], row['metric'])} ({row['n_seeds']})"
            cells[row["function_key"]] = (
                f"{value}; {difference}{'*' if p.endswith('*') else ''}" if difference else value
            )
        place = shorten(study.name if setting is None else setting, 60)
        columns[f"{place}: {label(metric)}" if cells else place] = cells
    rows = tuple(
        (shorten(name, _FORMULA), *(cells.get(key, "") for cells in columns.values())) for key, name in names.items()
    )
    header = ("function", *columns)
    caption = (
        "Value on the test set (seeds); difference to ReLU ± 95 % interval, * where it is significant. Of losses and "
        "bits per byte, less is better."
    )
    return Table(header, rows, code=(0,), caption=caption), len(columns)
