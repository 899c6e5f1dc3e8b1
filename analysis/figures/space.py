"""Figures of the space that was searched: the map, the operators, the sizes; and what failed."""

from __future__ import annotations

from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis import map as maps
from analysis import operators as shares
from analysis import searched
from analysis.figures.palette import BLUE, GREY, ORANGE, RED, SKY
from analysis.figures.ranges import colour_range, window
from analysis.figures.style import empty, in_lines, plain, styled, texts
from analysis.study import Study
from analysis.wording import factor, label

_SCALE = ((0.0, "#3F6FB0"), (0.5, "#9C9087"), (1.0, "#F0B400"))
"""From blue to yellow by way of grey, growing lighter: for any colour vision, on white as on black."""
_BAR = {"orientation": "h", "x": 0, "xanchor": "left", "y": -0.02, "yanchor": "top", "len": 0.5, "thickness": 10}
"""Below the map, which on a phone has no room beside it."""
_COLOURS = {"COMPLETE": BLUE, "PRUNED": ORANGE, "FAIL": RED}


def space_map(study: Study, *, dark: bool = False) -> go.Figure:
    """The functions on a plane, those with similar graphs near each other, coloured by their result."""
    table = maps.space_map(study)
    done = table[table["state"] == "COMPLETE"]
    if not (table["kind"] == "searched").any():
        return empty("The search has trained no function yet.", dark)
    figure = go.Figure()
    for state, name, symbol in (("FAIL", "failed", "x-thin-open"), ("PRUNED", "pruned", "circle-open")):
        part = table[table["state"] == state]
        if len(part):
            marker = {"color": GREY, "symbol": symbol, "size": 6, "opacity": 0.7, "line": {"width": 1, "color": GREY}}
            figure.add_trace(_on_map(part, name=name, marker=marker))
    if len(done):
        values = factor(study.objective) * done["value"]
        low, high = colour_range(values, study)
        marker = {"color": values, "colorscale": _SCALE, "cmin": low, "cmax": high, "size": 9}
        marker |= {"reversescale": not searched.larger_is_better(study), "line": {"width": 0.5, "color": GREY}}
        marker["colorbar"] = {**_BAR, "title": {"text": label(study.objective), "side": "top"}}
        figure.add_trace(_on_map(done, name="completed", marker=marker))
    named = table[table["name"].notna()]
    names = go.Scatter(x=named["across"], y=named["up"], mode="markers+text", name="known")
    places = maps.place_labels(named, table)
    names.update(
        marker={"symbol": "star-open", "size": 10, "color": RED},
        text=[plain(name, 24) if place else "" for name, place in zip(named["name"], places, strict=True)],
        textposition=[place or "top center" for place in places],
        textfont={"size": 11},
        hovertext=[plain(name) for name in named["name"]],
        hoverinfo="text",
    )
    figure.add_trace(names)
    figure.update_xaxes(showticklabels=False, showgrid=False)  # they mean nothing
    figure.update_yaxes(showticklabels=False, showgrid=False)
    return styled(figure, dark, 560)


def _on_map(part: pd.DataFrame, **style: Any) -> go.Scatter:
    points = go.Scatter(x=part["across"], y=part["up"], mode="markers", text=texts(part), **style)
    return points.update(hovertemplate="%{text}<extra></extra>")


def operators(study: Study, *, dark: bool = False) -> go.Figure:
    """Operators among the best tenth of the functions, with 95 % intervals, against their share of all."""
    table = shares.operator_shares(shares.uses(study)).dropna(subset=["best_share"])
    if table.empty:
        return empty("No function has completed its training.", dark)
    figure = go.Figure()
    every = go.Scatter(x=100 * table["share"], y=table.index, mode="markers", name="of all functions")
    every.update(marker={"symbol": "diamond-open", "size": 9, "color": GREY})
    best = go.Scatter(x=100 * table["best_share"], y=table.index, mode="markers", name="of the best 10 %")
    best.update(
        marker={"size": 9, "color": [BLUE if p < 0.05 else SKY for p in table["p"]]},
        error_x={
            "array": 100 * (table["high"] - table["best_share"]),
            "arrayminus": 100 * (table["best_share"] - table["low"]),
            "thickness": 1.2,
            "color": BLUE,
            "width": 3,
        },
    )
    for trace in (every, best):
        trace.update(hovertemplate="%{x:.1f} %<extra></extra>", cliponaxis=False)
        figure.add_trace(trace)
    names = [plain(shares.written(name)) for name in table["operator"]]
    figure.update_yaxes(tickvals=list(table.index), ticktext=names, range=[len(table) - 0.4, -0.6])
    figure.update_xaxes(title_text="share of functions that use it, %", range=[-3, 100 * table["high"].max() + 3])
    return styled(figure, dark, 140 + 22 * len(table))


def complexity(study: Study, *, dark: bool = False) -> go.Figure:
    """Results by number of nodes, and what became of the functions of each size."""
    functions = searched.searched(study)
    functions = functions[functions["complexity"].notna()]
    if functions.empty:
        return empty("The search has trained no function yet.", dark)
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.7, 0.3], vertical_spacing=0.05)
    done = functions[functions["state"] == "COMPLETE"]
    box = go.Box(x=done["complexity"], y=factor(study.objective) * done["value"], name="completed", showlegend=False)
    box.update(marker={"color": BLUE, "size": 4}, line={"width": 1.4}, hoverinfo="y")
    box.update(boxpoints="all" if len(done) <= 500 else False, jitter=0.5, pointpos=0, fillcolor="rgba(0,0,0,0)")
    figure.add_trace(box, row=1, col=1)
    counts = functions.groupby(["complexity", "state"]).size().unstack(fill_value=0)
    for state, name in (("COMPLETE", "completed"), ("PRUNED", "pruned"), ("FAIL", "failed")):
        if state in counts:
            bar = go.Bar(x=counts.index.astype(int), y=100 * counts[state] / counts.sum(axis=1), name=name)
            bar.update(marker={"color": _COLOURS[state]}, customdata=counts[state])
            figure.add_trace(bar.update(hovertemplate="%{customdata} functions<extra></extra>"), row=2, col=1)
    values = factor(study.objective) * done["value"]
    figure.update_yaxes(title_text=label(study.objective), range=window(values, study), row=1, col=1)
    figure.update_yaxes(title_text="%", range=[0, 100], row=2, col=1)
    figure.update_xaxes(title_text="nodes of the expression", row=2, col=1)
    return styled(figure.update_layout(barmode="stack"), dark, 460)


def failures(study: Study, *, dark: bool = False) -> go.Figure:
    """How many trials failed, by reason."""
    table = searched.failures_by_reason(study).head(15)
    if table.empty:
        return empty("No trial has failed.", dark)
    bars = go.Bar(x=table["trials"], y=table.index, orientation="h", marker={"color": RED}, text=table["trials"])
    bars.update(customdata=[plain(text, 160) for text in table["example"]])
    figure = go.Figure(bars.update(hovertemplate="%{x} trials, such as: %{customdata}<extra></extra>"))
    names = [in_lines(text, 36, 3) for text in table["pattern"]]
    figure.update_yaxes(tickvals=list(table.index), ticktext=names, range=[len(table) - 0.4, -0.6])
    figure.update_xaxes(title_text="trials", rangemode="tozero")
    figure.update_yaxes(ticks="outside", ticklen=5, tickcolor="rgba(0,0,0,0)")
    return styled(figure, dark, 110 + 50 * len(table))
