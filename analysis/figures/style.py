"""What all figures for a browser have in common."""

from __future__ import annotations

import html
import textwrap
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from analysis.wording import shorten

_MANY = 1_000
"""Points from which on WebGL draws them."""


def plain(text: object, length: int = 40) -> str:
    """A text of the study that is only a text for plotly."""
    return html.escape(shorten(text, length), quote=False)


def in_lines(text: object, length: int, lines: int) -> str:
    """The beginning of a text of the study, for a label with so many letters' room on each of so many lines."""
    wrapped = textwrap.wrap(shorten(text, 200), length, max_lines=lines, placeholder=" …")
    return "<br>".join(html.escape(line, quote=False) for line in wrapped)


def empty(message: str, dark: bool = False) -> go.Figure:
    """A sentence in place of a picture."""
    figure = go.Figure()
    figure.add_annotation(text=plain(message, 200), showarrow=False, xref="paper", yref="paper", x=0.5, y=0.5)
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    return styled(figure, dark, 160)


def scatter(points: int) -> Any:
    """The kind of trace for so many points in a figure."""
    return go.Scattergl if points > _MANY else go.Scatter


def texts(rows: pd.DataFrame) -> list[str]:
    """Formulas, to show when pointed at."""
    return [plain(formula, 60) for formula in rows["formula"]]


def styled(figure: go.Figure, dark: bool, height: int) -> go.Figure:
    """The figure with the template and the margins of all."""
    return (
        figure.update_layout(
            template="plotly_dark" if dark else "plotly_white",
            paper_bgcolor="rgba(0,0,0,0)",
            plot_bgcolor="rgba(0,0,0,0)",
            height=height,
            modebar={"bgcolor": "rgba(0,0,0,0)"},
            margin={"l": 10, "r": 16, "t": 40, "b": 10},
            font={"size": 12, "family": "system-ui, sans-serif"},
            legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
        )
        .update_xaxes(automargin=True, zeroline=False)
        .update_yaxes(automargin=True, zeroline=False)
    )
