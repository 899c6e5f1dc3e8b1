"""Figures of a study for a browser, each a plotly figure; ``analysis.figures.paper`` has the same ones for paper.

All take ``dark``, for a page with a dark background; the background itself is left transparent. Text that comes from
a study is escaped, since plotly reads tags in any text.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis import curves as sampled
from analysis import searched
from analysis.figures.course import BEYOND, groups
from analysis.figures.palette import BLUE, GREEN, GREY, ON_SCREEN, ORANGE, PINK, RED
from analysis.figures.ranges import window
from analysis.figures.space import complexity, failures, operators, space_map
from analysis.figures.style import empty, plain, scatter, styled, texts
from analysis.intervals import with_intervals
from analysis.study import Study
from analysis.wording import factor, label, title_of
from search_spaces.expression import Expression

__all__ = ["complexity", "curves", "empty", "failures", "intervals", "learning", "operators", "progress", "space_map"]

_MARKS = {"completed": (BLUE, "circle"), "pruned": (ORANGE, "triangle-down"), "retrained": (GREEN, "diamond")}
_DASHES = ("solid", "dash", "dot", "dashdot")


def progress(study: Study, *, dark: bool = False) -> go.Figure:
    """The objective of every finished trial of the search, in the order of their end, and the best so far."""
    rows = searched.in_order(study)
    if rows.empty:
        return empty("No trial has ended yet.", dark)
    parts, limits = groups(study, rows)
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.93, 0.07], vertical_spacing=0.03)
    marks = _MARKS | {BEYOND: (GREY, f"triangle-{'down' if searched.larger_is_better(study) else 'up'}-open")}
    for name, part in parts.items():
        colour, symbol = marks[name]
        marker = {"color": colour, "symbol": symbol, "size": 7 if len(rows) < 1_000 else 4, "opacity": 0.85}
        points = scatter(len(rows))(x=part["number"], y=part["y"], mode="markers", marker=marker)
        points.update(name=f"{len(part):,} beyond the axis" if name == BEYOND else name)
        points.update(text=texts(part), customdata=part["shown"])
        points.update(hovertemplate="%{text}<br>%{customdata:.4g} (trial %{x})<extra></extra>")
        figure.add_trace(points, row=1, col=1)
    steps = rows[rows["best"].notna()]
    steps = steps[steps["best"].ne(steps["best"].shift()) | (steps["number"] == rows["number"].max())]
    line = go.Scatter(x=steps["number"], y=steps["best"] * factor(study.objective), mode="lines", name="best so far")
    line.update(line={"shape": "hv", "color": PINK, "width": 2}, hovertemplate="best so far: %{y:.4g}<extra></extra>")
    figure.add_trace(line, row=1, col=1)
    failed = rows[rows["state"] == "FAIL"]
    below = scatter(len(rows))(x=failed["number"], y=np.zeros(len(failed)), mode="markers", name="failed")
    below.update(marker={"color": RED, "symbol": "line-ns-open", "size": 9}, text=texts(failed))
    below.update(hovertemplate="%{text} failed (trial %{x})<extra></extra>")
    figure.add_trace(below, row=2, col=1)
    figure.update_yaxes(title_text=label(study.objective), range=limits, row=1, col=1)
    figure.update_yaxes(visible=False, range=[-1, 1], row=2, col=1)
    figure.update_xaxes(title_text="trials, in the order of their end", row=2, col=1)
    return styled(figure, dark, 420)


def intervals(rows: pd.DataFrame, *, dark: bool = False) -> go.Figure:
    """Means with 95 % intervals, best on top.

    Args:
        rows: of a leaderboard. Those whose figures are of another metric than the first one's are left out, as they
            cannot be compared with it.
    """
    table = with_intervals(rows)
    if table.empty:
        return empty("No function has completed its training.", dark)
    metric = table["metric"].iloc[0]
    scale, places = factor(metric), list(range(len(table)))
    figure = go.Figure()
    for name, wanted, colour in (("new", table["name"].isna(), BLUE), ("known", table["name"].notna(), ORANGE)):
        part = table[wanted]
        if part.empty:
            continue
        symbols = ["circle" if n > 1 else "circle-open" for n in part["n_seeds"]]
        points = go.Scatter(x=scale * part["value"], y=part.index, mode="markers", name=name)
        points.update(
            error_x={
                "array": scale * (part["high"] - part["value"]),
                "arrayminus": scale * (part["value"] - part["low"]),
                "thickness": 1.5,
                "width": 4,
            },
            marker={"color": colour, "symbol": symbols, "size": 9},
            text=[
                f"{plain(row['formula'], 80)}<br>{row['n_seeds']} seeds, {row['interval']}"
                for _, row in part.iterrows()
            ],
            hovertemplate="%{text}<br>%{x:.4g}<extra></extra>",
        )
        figure.add_trace(points)
    reference = table[table["name"] == "ReLU"]
    if len(reference):
        figure.add_vline(x=scale * float(reference["value"].iloc[0]), line={"color": GREY, "dash": "dot", "width": 1})
    names = [plain(title_of(row, 26)) for _, row in table.iterrows()]
    figure.update_yaxes(tickvals=places, ticktext=names, range=[len(table) - 0.4, -0.6], tickfont={"size": 11})
    figure.update_xaxes(title_text=label(metric))
    return styled(figure, dark, 130 + 24 * len(table))


def curves(expressions_by_label: Mapping[str, Expression], *, dark: bool = False) -> go.Figure:
    """f and f' of some functions on [-5, 5], learnable parameters at their initial value 1; the first stands out."""
    if not expressions_by_label:
        return empty("There is no function to draw.", dark)
    x, values, slopes = sampled.sample(list(expressions_by_label.values()))
    figure = make_subplots(rows=1, cols=2, horizontal_spacing=0.1)
    for number, name in enumerate(expressions_by_label):
        style = {"color": ON_SCREEN[number % len(ON_SCREEN)], "dash": _DASHES[number // len(ON_SCREEN) % len(_DASHES)]}
        for column, rows in ((1, values), (2, slopes)):
            y = sampled.broken(rows[number]).astype(np.float32)  # half the size of the page
            line = go.Scatter(x=x.astype(np.float32), y=y, mode="lines", name=plain(name, 34))
            line.update(line={**style, "width": 3 if number == 0 else 1.6}, legendgroup=str(number))
            line.update(showlegend=column == 1, hovertemplate=f"{plain(name)}: %{{y:.3f}} at %{{x:.2f}}<extra></extra>")
            figure.add_trace(line, row=1, col=column)
    for column, rows, title in ((1, values, "f(x)"), (2, slopes, "f'(x)")):
        figure.update_yaxes(range=list(sampled.window(rows)), title_text=title, row=1, col=column)
        figure.update_xaxes(title_text="x", row=1, col=column)
    return styled(figure, dark, 400).update_xaxes(zeroline=True).update_yaxes(zeroline=True)


def learning(study: Study, rows: pd.DataFrame, *, dark: bool = False) -> go.Figure:
    """Learning curves of the functions of some rows of a leaderboard: every seed thin, their mean bold."""
    metric, table = sampled.learning(study, rows)
    if table.empty:
        return empty("No learning curves are recorded for these functions.", dark)
    figure = go.Figure()
    for number, (key, part) in enumerate(table.groupby("function_key", sort=False)):
        row = rows[rows["function_key"] == key].iloc[0]
        name, colour = plain(title_of(row, 34)), ON_SCREEN[number % len(ON_SCREEN)]
        dash = _DASHES[number // len(ON_SCREEN) % len(_DASHES)]
        x, y = sampled.joined(part, metric)
        thin = go.Scatter(x=x, y=y, mode="lines", legendgroup=str(key), showlegend=False, hoverinfo="skip")
        thin.update(line={"color": colour, "width": 0.8, "dash": dash}, opacity=0.45)
        mean = part.groupby("epoch")[metric].mean()
        mode = "lines" if len(mean) > 1 else "markers"
        bold = go.Scatter(x=mean.index, y=factor(metric) * mean, mode=mode, name=name, legendgroup=str(key))
        bold.update(line={"color": colour, "width": 2.6, "dash": dash})
        bold.update(hovertemplate=f"{name}: %{{y:.4g}} after epoch %{{x}}<extra></extra>")
        figure.add_traces([thin, bold])
    figure.update_xaxes(title_text="epoch", dtick=1 if table["epoch"].max() <= 12 else None)
    figure.update_yaxes(title_text=label(metric), range=window(factor(metric) * table[metric], study))
    return styled(figure, dark, 440)
