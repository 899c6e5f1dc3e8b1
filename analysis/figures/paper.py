"""The figures of a report for paper, drawn by matplotlib: as wide as a page of two columns, small type, no titles.

They show what ``analysis.figures`` shows, from the same tables.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis import curves as sampled
from analysis import searched
from analysis.figures.course import BEYOND, groups
from analysis.figures.palette import BLUE, COLOURS, GREEN, GREY, ORANGE, PINK, RED
from analysis.figures.paper_space import draw_complexity, draw_failures, draw_map, draw_operators
from analysis.figures.paper_style import STYLE, WIDTH, bare, legend_above, plain, rows_of
from analysis.figures.ranges import window
from analysis.intervals import with_intervals
from analysis.leaders import Leaders
from analysis.report.parts import cannot_write
from analysis.study import Study
from analysis.wording import factor, label, title_of
from search_spaces.expression import Expression

FORMATS = ("png", "svg", "pdf")
_MARKS = {"completed": (BLUE, "o"), "pruned": (ORANGE, "v"), "retrained": (GREEN, "D"), BEYOND: (GREY, "x")}
_LINES = ("-", "--", ":", "-.")


def write_figures(study: Study, chosen: Leaders, folder: Path, format: str = "png") -> dict[str, Path]:
    """Draw every figure that has something to show; paths by the figure's name.

    Args:
        study: to draw.
        chosen: its leaders.
        folder: made if it does not exist.
        format: one of :data:`FORMATS`.

    Raises:
        ReportError: the folder cannot be written.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    logging.getLogger("fontTools").setLevel(logging.ERROR)  # it tells of fonts without a date
    drawers: Mapping[str, Callable[[], Any]] = {
        "progress": lambda: draw_progress(study),
        "intervals": lambda: draw_intervals(chosen.listed),
        "curves": lambda: draw_curves(chosen.expressions),
        "learning": lambda: draw_learning(study, chosen.drawn),
        "space_map": lambda: draw_map(study),
        "operators": lambda: draw_operators(study),
        "complexity": lambda: draw_complexity(study),
        "failures": lambda: draw_failures(study),
    }
    written = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, draw in drawers.items():
            with plt.rc_context(STYLE), warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Glyph")  # a stranger's text may be in any script
                figure = draw()
                if figure is not None:
                    written[name] = folder / f"{name}.{format}"
                    figure.savefig(written[name], dpi=300)
                    plt.close(figure)
    except OSError as error:
        raise cannot_write(folder, error) from error
    return written


def draw_progress(study: Study) -> Any:
    import matplotlib.pyplot as plt

    rows = searched.in_order(study)
    if rows.empty:
        return None
    figure, axis = plt.subplots(figsize=(WIDTH, 2.8), layout="constrained")
    scale, size = factor(study.objective), 9 if len(rows) < 1000 else 2
    parts, limits = groups(study, rows)
    for name, part in parts.items():  # thousands of points are a picture in a picture, or the file is slow to open
        colour, marker = _MARKS[name]
        style = {"s": size, "color": colour, "marker": marker, "alpha": 0.7, "linewidths": 0.7 if name == BEYOND else 0}
        text = f"{len(part):,} beyond the axis" if name == BEYOND else name
        axis.scatter(part["number"], part["y"], label=text, rasterized=len(rows) > 1000, **style)
    axis.step(rows["number"], scale * rows["best"], where="post", color=PINK, label="best so far", linewidth=1.4)
    if limits:
        axis.set_ylim(*limits)
    failed = rows.loc[rows["state"] == "FAIL", "number"]
    if len(failed):
        style = {"transform": axis.get_xaxis_transform(), "marker": "|", "color": RED, "s": 14, "linewidths": 0.6}
        axis.scatter(failed, np.full(len(failed), 0.05), label="failed", rasterized=len(rows) > 1000, **style)
    bare(axis, "trials, in the order of their end", label(study.objective))
    return legend_above(figure, axis, columns=6)


def draw_intervals(rows: pd.DataFrame) -> Any:
    import matplotlib.pyplot as plt

    table = with_intervals(rows)
    if table.empty:
        return None
    figure, axis = plt.subplots(figsize=(WIDTH, 0.9 + 0.19 * len(table)), layout="constrained")
    metric = table["metric"].iloc[0]
    scale = factor(metric)
    for name, wanted, colour in (("new", table["name"].isna(), BLUE), ("known", table["name"].notna(), ORANGE)):
        part = table[wanted]
        if part.empty:
            continue
        spans = scale * np.array([part["value"] - part["low"], part["high"] - part["value"]])
        axis.errorbar(scale * part["value"], part.index, xerr=spans, fmt="o", color=colour, label=name, ms=4, lw=1.1)
        single = part[part["n_seeds"] < 2]
        axis.plot(scale * single["value"], single.index, "o", color=colour, ms=4, mfc="white")
    reference = table[table["name"] == "ReLU"]
    if len(reference):
        axis.axvline(scale * float(reference["value"].iloc[0]), color=GREY, linestyle=":", linewidth=0.9)
    rows_of(axis, [title_of(row, 44) for _, row in table.iterrows()])
    bare(axis, label(metric), "")
    return legend_above(figure, axis)


def draw_curves(expressions: Mapping[str, Expression]) -> Any:
    import matplotlib.pyplot as plt

    if not expressions:
        return None
    x, values, slopes = sampled.sample(list(expressions.values()))
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 2.9), layout="constrained")
    for axis, rows, title in zip(axes, (values, slopes), ("$f(x)$", "$f'(x)$"), strict=True):
        axis.axhline(0, color="0.85", linewidth=0.7)
        axis.axvline(0, color="0.85", linewidth=0.7)
        for number, name in reversed(list(enumerate(expressions))):
            style = {"color": COLOURS[number % len(COLOURS)], "linestyle": _LINES[number % len(_LINES)]}
            width = 2.2 if number == 0 else 1.1
            axis.plot(x, sampled.broken(rows[number]), label=plain(name, 30), linewidth=width, **style)
        axis.set_xlim(-5, 5)
        axis.set_ylim(*sampled.window(rows))
        bare(axis, "$x$", title)
    return legend_above(figure, axes[0], columns=4, backwards=True)


def draw_learning(study: Study, rows: pd.DataFrame) -> Any:
    import matplotlib.pyplot as plt

    metric, table = sampled.learning(study, rows)
    if table.empty:
        return None
    figure, axis = plt.subplots(figsize=(WIDTH, 3.1), layout="constrained")
    scale = factor(metric)
    for number, (key, part) in enumerate(table.groupby("function_key", sort=False)):
        style: dict[str, Any] = {"color": COLOURS[number % len(COLOURS)], "linestyle": _LINES[number % len(_LINES)]}
        axis.plot(*sampled.joined(part, metric), linewidth=0.5, alpha=0.5, **style)
        mean = part.groupby("epoch")[metric].mean()
        name = plain(title_of(rows[rows["function_key"] == key].iloc[0], 30), 30)
        axis.plot(mean.index, scale * mean, linewidth=1.8, marker="" if len(mean) > 1 else "o", label=name, **style)
    limits = window(scale * table[metric], study)
    if limits:
        axis.set_ylim(*limits)
    axis.xaxis.get_major_locator().set_params(integer=True)
    bare(axis, "epoch", label(metric))
    return legend_above(figure, axis, columns=4)
