"""Leaderboards as text: a table for people, CSV and JSON for programs."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
from rich.table import Table
from rich.text import Text

from analysis.leaderboard import to_records

_STYLES = {"COMPLETE": "green", "RUNNING": "cyan", "PRUNED": "yellow", "FAIL": "red"}
_WIDE = 124
"""Columns of a terminal from which on a value and its spread stand side by side."""
_SCALES = {"val_accuracy": (100, 2)}
"""Factor and digits after the point with which a metric is shown."""


def leaderboard_note(rows: pd.DataFrame) -> str:
    """What the columns of :func:`leaderboard_table` are."""
    metric = rows["metric"].iloc[0] if len(rows) else "val_accuracy"
    unit = "points of accuracy" if metric == "val_accuracy" else f"difference in {metric}, negative is better,"
    names = "acc, loss (nats) and bpb (bits a byte)" if _has_bpb(rows) else "acc and loss"
    return (
        f"{names}: mean ± standard deviation over n seeds, on data held out from training. vs ReLU: {unit} "
        "± 95 % interval over matched seeds, bold where it excludes 0 (not corrected for the number of candidates)."
        + (" Bold cost: no function is both better and cheaper." if _costs(rows) else "")
    )


def _has_bpb(rows: pd.DataFrame) -> bool:
    return bool(rows["val_bpb"].notna().any())


def leaderboard_table(rows: pd.DataFrame, width: int) -> Table:
    """A leaderboard for a terminal of that width."""
    between = " " if width >= _WIDE else "\n"
    metrics = {"acc %": "val_accuracy", "loss": "val_loss"} | ({"bpb": "val_bpb"} if _has_bpb(rows) else {})
    table = Table(header_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("formula", overflow="fold", min_width=16)
    costs = _costs(rows)
    for header in (*metrics, "n", "vs ReLU", *costs, "params", "s"):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for row in to_records(rows):
        table.add_row(
            str(row["rank"]),
            _formula(row),
            *(_spread(row[name], row[f"{name}_std"], *_SCALES.get(name, (1, 3)), between) for name in metrics.values()),
            f"{row['n_seeds']} of {row['n_seeds'] + row['n_failed']}" if row["n_failed"] else str(row["n_seeds"]),
            Text("reference", style="dim") if row["name"] == "ReLU" else _difference(row, between),
            *(_cost(row, name) for name in costs.values()),
            "" if row["parameters"] is None else f"{int(row['parameters']):,}",
            "" if row["seconds"] is None else f"{row['seconds']:.1f}",
            Text(row["state"], style=_STYLES[row["state"]]),
        )
    return table


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
    scale, digits = _SCALES.get(row["metric"], (1, 3))
    if interval is None:
        return Text(f"{mean * scale:+.{digits}f}")
    style = "bold" if abs(mean) > interval else ""
    return Text(f"{mean * scale:+.{digits}f}{between}± {interval * scale:.{digits}f}", style=style)
