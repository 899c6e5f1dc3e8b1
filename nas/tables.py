"""Leaderboards as text: a table for people, CSV and JSON for programs."""

from __future__ import annotations

import json
import math
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from analysis.trials import to_records

_STAGES = {"confirm": ("confirmed", "bold green"), "retrain": ("retrained", "green"), "search": ("searched", "")}
_STATES = {"RUNNING": ("running", "cyan"), "PRUNED": ("pruned", "yellow"), "FAIL": ("failed", "red")}
_WIDE = 124
"""Columns of a terminal from which on a value and its spread stand side by side."""
_SCALES = {"accuracy": (100, 2)}
"""Factor and digits after the point with which a metric is shown."""
_SURE = 0.05


def print_leaderboard(console: Console, rows: pd.DataFrame, note: bool = True) -> None:
    """With the note that explains it."""
    console.print(leaderboard_table(rows, console.width))
    if note:
        console.print(leaderboard_note(rows), style="dim", markup=False)


def leaderboard_note(rows: pd.DataFrame) -> str:
    """What the columns of :func:`leaderboard_table` are."""
    metric = rows["metric"].iloc[0] if len(rows) else "val_accuracy"
    unit = (
        "points of accuracy" if metric.endswith("accuracy") else f"difference in {_kind(metric)}, negative is better,"
    )
    names = "acc, loss (nats) and bpb (bits a byte)" if _has_bpb(rows) else "acc and loss"
    confirmed = bool((rows["stage"] == "confirm").any())
    data = "on data held out from training" + (", of confirmed functions on the test set" if confirmed else "")
    text = f"{names}: mean ± standard deviation over n seeds, {data}."
    if rows["vs_relu_ci95"].notna().any():
        race = int(rows["race"].max())
        text += (
            f" vs ReLU: {unit} ± 95 % interval over matched seeds. sure: whether that differs from 0 by a paired t "
            f"test with Holm's correction for {race} functions (p < {_SURE}), else with how many seeds it would, if it "
            "is as large as it looks."
        )
    return text + (" Bold cost: no function is both better and cheaper." if _costs(rows) else "")


def _has_bpb(rows: pd.DataFrame) -> bool:
    return bool(rows[["val_bpb", "test_bpb"]].notna().any().any())


def leaderboard_table(rows: pd.DataFrame, width: int) -> Table:
    """A leaderboard for a terminal of that width."""
    between = " " if width >= _WIDE else "\n"
    metrics = {"acc %": "accuracy", "loss": "loss"} | ({"bpb": "bpb"} if _has_bpb(rows) else {})
    table = Table(header_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("#", justify="right", no_wrap=True)
    if "run" in rows:
        table.add_column("run", overflow="fold")
    table.add_column("formula", overflow="fold", min_width=16)
    costs = _costs(rows)
    for header in (*metrics, "n", "vs ReLU", "sure", *costs, "params", "s"):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("stage", no_wrap=True)
    for row in to_records(rows):
        table.add_row(
            str(row["rank"]),
            *([row["run"]] if "run" in rows else []),
            _formula(row),
            *(_metric(row, kind, between) for kind in metrics.values()),
            f"{row['n_seeds']} of {row['n_seeds'] + row['n_failed']}" if row["n_failed"] else str(row["n_seeds"]),
            Text("reference", style="dim") if row["name"] == "ReLU" else _difference(row, between),
            Text("") if row["name"] == "ReLU" else _sure(row),
            *(_cost(row, name) for name in costs.values()),
            "" if row["parameters"] is None else f"{int(row['parameters']):,}",
            "" if row["seconds"] is None else f"{row['seconds']:.1f}",
            _state(row),
        )
    return table


def _state(row: dict[str, Any]) -> Text:
    text, style = _STAGES[row["stage"]] if row["state"] == "COMPLETE" else _STATES[row["state"]]
    return Text(text, style=style)


def _metric(row: dict[str, Any], kind: str, between: str) -> str:
    """Of the test set, where the function was confirmed."""
    name = f"{'test' if row['stage'] == 'confirm' else 'val'}_{kind}"
    return _spread(row[name], row[f"{name}_std"], *_SCALES.get(kind, (1, 3)), between)


def _kind(metric: str) -> str:
    return metric.removeprefix("val_").removeprefix("test_")


def _sure(row: dict[str, Any]) -> Text:
    if row["vs_relu_holm"] is not None and row["vs_relu_holm"] < _SURE:
        return Text("yes", style="bold")
    seeds = row["vs_relu_seeds"]
    if seeds is None:
        return Text("")
    return Text("> 1000 seeds" if math.isinf(seeds) else f"{seeds:.0f} seeds", style="dim")


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


def leaderboard_json(rows: pd.DataFrame) -> str:
    return json.dumps(to_records(rows), indent=2)


def _formula(row: dict[str, Any]) -> Text:
    text = Text(row["formula"])
    if row["likeness"]:
        text.append(f"  {row['likeness']}", style="cyan")
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
    scale, digits = _SCALES.get(_kind(row["metric"]), (1, 3))
    if interval is None:
        return Text(f"{mean * scale:+.{digits}f}")
    style = "bold" if row["vs_relu_holm"] is not None and row["vs_relu_holm"] < _SURE else ""
    return Text(f"{mean * scale:+.{digits}f}{between}± {interval * scale:.{digits}f}", style=style)
