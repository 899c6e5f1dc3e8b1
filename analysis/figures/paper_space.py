"""Figures for paper of the space that was searched, and of what failed."""

from __future__ import annotations

from typing import Any

import numpy as np

from analysis import map as maps
from analysis import operators as shares
from analysis import searched
from analysis.figures.palette import BLUE, GREY, ORANGE, RED
from analysis.figures.paper_style import WIDTH, bare, legend_above, plain, rows_of
from analysis.figures.ranges import colour_range, window
from analysis.study import Study
from analysis.wording import factor, label

_STATES = (("COMPLETE", "completed", BLUE), ("PRUNED", "pruned", ORANGE), ("FAIL", "failed", RED))


def draw_map(study: Study) -> Any:
    import matplotlib.pyplot as plt
    from matplotlib.patheffects import withStroke

    table = maps.space_map(study)
    if not (table["kind"] == "searched").any():
        return None
    figure, axis = plt.subplots(figsize=(WIDTH, 4.6), layout="constrained")
    for state, name, marker in (("FAIL", "failed", "x"), ("PRUNED", "pruned", ".")):
        part = table[table["state"] == state]
        if len(part):
            axis.scatter(part["across"], part["up"], s=9, color=GREY, marker=marker, linewidths=0.5, label=name)
    done = table[table["state"] == "COMPLETE"]
    if len(done):
        larger = searched.larger_is_better(study)
        values = factor(study.objective) * done["value"]
        low, high = colour_range(values, study)
        style = {"cmap": "cividis" if larger else "cividis_r", "vmin": low, "vmax": high, "s": 20, "label": "completed"}
        points = axis.scatter(done["across"], done["up"], c=values, edgecolors=GREY, linewidths=0.3, **style)
        figure.colorbar(points, ax=axis, label=label(study.objective), shrink=0.7)
    named = table[table["name"].notna()]
    axis.scatter(
        named["across"], named["up"], marker="*", s=34, facecolors="none", edgecolors=RED, linewidths=0.7, label="known"
    )
    halo = [withStroke(linewidth=1.6, foreground="white")]
    for (_, row), place in zip(named.iterrows(), maps.place_labels(named, table), strict=True):
        if place is not None:
            at, style = (row["across"], row["up"]), _BESIDE[place]
            axis.annotate(
                plain(row["name"], 24), at, textcoords="offset points", fontsize=6.5, path_effects=halo, **style
            )
    axis.set_xticks([])
    axis.set_yticks([])
    return legend_above(figure, axis)


_BESIDE: dict[str, dict[str, Any]] = {
    "top center": {"xytext": (0, 4), "ha": "center", "va": "bottom"},
    "bottom center": {"xytext": (0, -4), "ha": "center", "va": "top"},
    "middle right": {"xytext": (5, 0), "ha": "left", "va": "center"},
    "middle left": {"xytext": (-5, 0), "ha": "right", "va": "center"},
}


def draw_operators(study: Study) -> Any:
    import matplotlib.pyplot as plt

    functions = shares.uses(study)
    table = shares.operator_shares(functions).dropna(subset=["best_share"]) if len(functions) else None
    if table is None or table.empty:
        return None
    figure, axis = plt.subplots(figsize=(WIDTH, 0.9 + 0.17 * len(table)), layout="constrained")
    spans = 100 * np.array([table["best_share"] - table["low"], table["high"] - table["best_share"]])
    axis.errorbar(100 * table["best_share"], table.index, xerr=spans, fmt="o", color=BLUE, ms=4, lw=1, label=_BEST)
    style = {"marker": "D", "s": 16, "facecolors": "none", "edgecolors": GREY, "zorder": 3}
    axis.scatter(100 * table["share"], table.index, label="of all functions", **style)
    rows_of(axis, [shares.written(name) for name in table["operator"]])
    bare(axis, "share of functions that use it, %", "")
    return legend_above(figure, axis)


_BEST = "of the best 10 % (95 % Wilson interval)"


def draw_complexity(study: Study) -> Any:
    import matplotlib.pyplot as plt

    functions = searched.searched(study)
    functions = functions[functions["complexity"].notna()]
    if functions.empty:
        return None
    shape = {"height_ratios": [3, 1.2]}
    figure, (above, below) = plt.subplots(
        2, 1, figsize=(WIDTH, 3.6), sharex=True, layout="constrained", gridspec_kw=shape
    )
    done = functions[functions["state"] == "COMPLETE"]
    values = factor(study.objective) * done["value"]
    sizes = sorted(done["complexity"].unique())
    if sizes:
        groups = [values[done["complexity"] == size] for size in sizes]
        style = {"medianprops": {"color": BLUE, "linewidth": 1.6}, "flierprops": {"markersize": 2}, "widths": 0.5}
        above.boxplot(groups, positions=[int(size) for size in sizes], manage_ticks=False, **style)
    limits = window(values, study)
    if limits:
        above.set_ylim(*limits)
    counts = functions.groupby(["complexity", "state"]).size().unstack(fill_value=0)
    shares_of = 100 * counts.div(counts.sum(axis=1), axis=0)
    under = np.zeros(len(counts))
    for state, name, colour in _STATES:
        if state in shares_of:
            below.bar(counts.index.astype(int), shares_of[state], bottom=under, color=colour, label=name, width=0.6)
            under = under + shares_of[state].to_numpy()
    below.xaxis.get_major_locator().set_params(integer=True)
    bare(above, "", label(study.objective))
    bare(below, "nodes of the expression", "%")
    return legend_above(figure, below)


def draw_failures(study: Study) -> Any:
    import matplotlib.pyplot as plt

    table = searched.failures_by_reason(study).head(15)
    if table.empty:
        return None
    figure, axis = plt.subplots(figsize=(WIDTH, 0.7 + 0.22 * len(table)), layout="constrained")
    axis.barh(table.index, table["trials"], color=RED, height=0.6)
    rows_of(axis, list(table["pattern"]), 70)
    axis.xaxis.get_major_locator().set_params(integer=True)
    bare(axis, "trials", "")
    return figure
