"""Leaderboards as text: a table for people, CSV and JSON for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from typing import Any

import pandas as pd
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from analysis.comparisons import SURE, outcome
from analysis.trials import to_records
from analysis.wording import kind, likeness, unit

_STAGES = {"confirm": ("confirmed", "bold green"), "retrain": ("retrained", "green"), "search": ("searched", "")}
INTERRUPTED = "INTERRUPTED"
"""Instead of RUNNING, where nobody trains any more; a study knows only that a training has not ended."""
_STATES = {
    "RUNNING": ("running", "cyan"),
    INTERRUPTED: ("interrupted", "yellow"),
    "PRUNED": ("pruned", "yellow"),
    "FAIL": ("failed", "red"),
}
_SURE = {"better": "bold green", "worse": "bold red"}
_WIDE = 124
"""Columns of a terminal from which on a value and its spread stand side by side."""
_FORMULA = 28
"""Columns that a formula is given, if it wants them, before others are spared."""
_LEAST = 12
"""Columns that it is given in any case."""
_SCALES = {"accuracy": (100, 2)}
"""Factor and digits after the point with which a metric is shown."""
_EXTRA = {"nodes": "complexity", "x ReLU": "cost"}
"""Columns that are shown where they are asked for, or were a goal of the search."""
_ORDERS = {
    "vs_relu": "The studies trained in different ways, so rows are ordered by the difference to ReLU in their own.",
    "rank": "The studies measured different things, so rows are ordered by their place in their own study.",
}
"""What is said of the order of several studies' rows, by the column that it comes from."""
_SPARED = ("params", "s", "loss", "n")
"""Columns that a narrow terminal has no room for, the least important first."""


def print_leaderboard(console: Console, rows: pd.DataFrame, note: bool = True, extra: Collection[str] = ()) -> None:
    """With the note that explains it, and columns of :data:`_EXTRA` that are asked for."""
    console.print(leaderboard_table(rows, console.width, extra))
    if note:
        console.print(leaderboard_note(rows), style="dim", markup=False)


def leaderboard_note(rows: pd.DataFrame) -> str:
    """What the columns of :func:`leaderboard_table` are."""
    difference = " or ".join(dict.fromkeys(map(unit_of, rows["metric"])))
    names = "acc, loss (nats) and bpb (bits a byte)" if _has_bpb(rows) else "acc and loss"
    text = f"{names}: mean ± standard deviation over n seeds, {_scored_on(rows)}."
    if rows["vs_relu_ci95"].notna().any():
        races = rows.dropna(subset=["race"]).groupby("stage", sort=False)["race"].max()
        race = " and ".join(f"{int(n)} {_STAGES[str(stage)][0]}" for stage, n in races.items())
        if list(races.index) == ["retrain"]:
            race = f"{int(races.iloc[0])}"
        race += " function" if races.max() == 1 else " functions"
        if "run" in rows:
            race = "all functions of the study of its own that were in the race"
        text += (
            f" vs ReLU: {difference} ± 95 % interval over matched seeds. sure: better or worse by a paired t test with "
            f"Holm's correction for {race} (p < {SURE}), else how many seeds would show it, if it is as "
            "large as it looks."
        )
    if why := _ORDERS.get(rows.attrs.get("order", "")):
        text += f" {why}"
    return text + (" Bold cost: no function is both better and cheaper." if _costs(rows) else "")


def _scored_on(rows: pd.DataFrame) -> str:
    """What the metrics were measured on."""
    confirmed = rows["stage"] == "confirm"
    if confirmed.any() and confirmed.all():
        return "on the test set"
    return "on data held out from training" + (", of confirmed functions on the test set" if confirmed.any() else "")


def unit_of(metric: str) -> str:
    """Of a difference, with its better side where that is not the upper one."""
    return unit(metric) if kind(metric) == "accuracy" else f"{unit(metric)}, less is better,"


def _has_bpb(rows: pd.DataFrame) -> bool:
    return bool(rows[["val_bpb", "test_bpb"]].notna().any().any())


def leaderboard_table(rows: pd.DataFrame, width: int, extra: Collection[str] = ()) -> Table:
    """A leaderboard for a terminal of that width, without the columns that have no room there."""
    for spared in range(len(_SPARED) + 1):
        table = _table(rows, width, extra, _SPARED[:spared])
        if _least_width(table) <= width:
            return table
    return _table(rows, width, extra, _SPARED, _LEAST)


def _least_width(table: Table) -> int:
    """Where nothing is cut off; rich would cut the last columns off."""
    widths = [
        max(cell_len(line) for cell in (column.header, *column.cells) for line in str(cell).split("\n"))
        if column.no_wrap
        else column.min_width or 8
        for column in table.columns
    ]
    return sum(widths) + 2 * (len(widths) - 1)


def _table(
    rows: pd.DataFrame, width: int, extra: Collection[str], spared: Collection[str], room: int = _FORMULA
) -> Table:
    between = " " if width >= _WIDE else "\n"
    several = "run" in rows
    metrics = {"acc %": "accuracy", "loss": "loss"} | ({"bpb": "bpb"} if _has_bpb(rows) else {})
    metrics = {header: name for header, name in metrics.items() if header not in spared}
    costs = _costs(rows) | {header: name for header, name in _EXTRA.items() if name in extra}
    last = [header for header in ("params", "s") if header not in spared]
    table = Table(header_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("#", justify="right", no_wrap=True)
    if several:
        table.add_column("run", overflow="fold")
    longest = max((cell_len(text) for text in rows["formula"]), default=0)
    table.add_column("formula", overflow="fold", min_width=max(_LEAST, min(longest, room)))
    counts = [] if "n" in spared else ["n"]
    for header in (*metrics, *counts, "vs ReLU", "sure", *costs, *last):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("stage", no_wrap=True)
    for place, row in enumerate(to_records(rows), 1):
        ends = {"params": _whole(row["parameters"]), "s": "" if row["seconds"] is None else f"{row['seconds']:.1f}"}
        table.add_row(
            str(place if several else row["rank"]),
            *([row["run"]] if several else []),
            _formula(row),
            *(_metric(row, name, between) for name in metrics.values()),
            *(_seeds(row) for _ in counts),
            Text("reference", style="dim") if row["name"] == "ReLU" else _difference(row, between),
            Text("") if row["name"] == "ReLU" else _sure(row, between),
            *(_cost(row, name) for name in costs.values()),
            *(ends[header] for header in last),
            _state(row),
        )
    return table


def _whole(value: float | None) -> str:
    return "" if value is None else f"{int(value):,}"


def _seeds(row: dict[str, Any]) -> str:
    """How many trainings are behind the means; nothing for a function without a whole one."""
    if row["n_failed"]:
        return f"{row['n_seeds']} of {row['n_seeds'] + row['n_failed']}"
    return str(row["n_seeds"] or "")


def _state(row: dict[str, Any]) -> Text:
    text, style = _STAGES[row["stage"]] if row["state"] == "COMPLETE" else _STATES[row["state"]]
    return Text(text, style=style)


def _metric(row: dict[str, Any], metric: str, between: str) -> str:
    """Of the test set, where the function was confirmed."""
    name = f"{'test' if row['stage'] == 'confirm' else 'val'}_{metric}"
    return _spread(row[name], row[f"{name}_std"], *_SCALES.get(metric, (1, 3)), between)


def _sure(row: dict[str, Any], between: str) -> Text:
    if (said := outcome(row, "vs_relu")) in _SURE:
        return Text(said, style=_SURE[said])
    seeds = row["vs_relu_seeds"]
    if seeds is None:
        return Text("")
    return Text(f"{'> 1000' if math.isinf(seeds) else f'{seeds:.0f}'}{between}seeds", style="dim")


def _costs(rows: pd.DataFrame) -> dict[str, str]:
    """Header and column of what the search wanted to be small beside its objective."""
    if not rows["front"].notna().any():
        return {}
    return {"x ReLU": "cost"} if rows["cost"].notna().any() else {"nodes": "complexity"}


def _cost(row: dict[str, Any], name: str) -> Text:
    if row[name] is None:
        return Text("")
    return Text(f"{row[name]:.2f}" if name == "cost" else str(row[name]), style="bold" if row["front"] else "")


def leaderboard_csv(rows: pd.DataFrame) -> str:
    return rows.to_csv(index=False)


def leaderboard_md(rows: pd.DataFrame) -> str:
    """A table for a page: fewer columns, and p values in place of a verdict."""
    from analysis.report.markdown import table_lines
    from analysis.report.rows import short_table

    return table_lines(short_table(rows))[0]


def leaderboard_json(rows: pd.DataFrame) -> str:
    return json.dumps(to_records(rows), indent=2)


def _formula(row: dict[str, Any]) -> Text:
    text = Text(row["formula"])
    if like := likeness(row):
        text.append(f"  {like}", style="cyan")
    if not row["found"]:
        text.append("  baseline", style="dim italic")
    return text


def _spread(mean: float | None, std: float | None, scale: float, digits: int, between: str) -> str:
    if mean is None:
        return ""
    text = f"{mean * scale:.{digits}f}"
    return text if std is None else f"{text}{between}± {std * scale:.{digits}f}"


def _difference(row: dict[str, Any], between: str) -> Text:
    mean, interval = row["vs_relu"], row["vs_relu_ci95"]
    if mean is None:
        return Text("")
    scale, digits = _SCALES.get(kind(row["metric"]), (1, 3))
    difference = f"{round(mean * scale, digits) + 0.0:+.{digits}f}"  # never -0.00
    if interval is None:
        return Text(difference)
    style = _SURE.get(outcome(row, "vs_relu"), "")
    return Text(f"{difference}{between}± {interval * scale:.{digits}f}", style=style)
