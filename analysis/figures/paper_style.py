"""What all figures for paper have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from analysis.wording import shorten

WIDTH = 6.9
"""Inches: both columns of most conferences' pages."""
STYLE = {
    "font.size": 8,
    "axes.labelsize": 8,
    "legend.fontsize": 7.5,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "axes.linewidth": 0.7,
    "svg.fonttype": "none",
    "pdf.fonttype": 42,  # text that can be searched, and that publishers accept
}


def plain(text: object, length: int = 44) -> str:
    """A text of the study that is only a text for matplotlib: it reads dollars as mathematics, and hides what begins
    with an underscore from legends."""
    line = shorten(text, length).replace("$", r"\$")
    return f" {line}" if line.startswith("_") else line


def bare(axis: Any, across: str, up: str) -> None:
    """Labels, and no frame above and on the right."""
    axis.set_xlabel(across)
    axis.set_ylabel(up)
    axis.spines[["top", "right"]].set_visible(False)


def rows_of(axis: Any, names: Sequence[object], length: int = 44) -> None:
    """Names along the left, the first on top."""
    axis.set_yticks(range(len(names)), [plain(name, length) for name in names])
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.grid(axis="x", alpha=0.25, linewidth=0.5)


def legend_above(figure: Any, axis: Any, columns: int = 5, backwards: bool = False) -> Any:
    """The figure, with the legend of one of its axes above all."""
    handles, labels = axis.get_legend_handles_labels()
    step = -1 if backwards else 1
    if handles:
        figure.legend(handles[::step], labels[::step], frameon=False, loc="outside upper left", ncols=columns)
    return figure
