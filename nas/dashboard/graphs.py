"""Figures on pages: made when they are seen, kept while their study stays as it is, zoomed as the user left them."""

from __future__ import annotations

import logging
import math
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from dash import MATCH, Dash, Input, Output, State, dcc, html
from dash.exceptions import PreventUpdate

from analysis import figures
from nas.dashboard import functions
from nas.dashboard.studies import Snapshot, Studies

_log = logging.getLogger(__name__)
_TOP = 12
"""Functions in one figure of the best."""
_CONFIG = {
    "displaylogo": False,
    "displayModeBar": "hover",
    "responsive": True,
    # These and no others: among plotly's own is one that hands the figure to a service of theirs.
    "modeBarButtons": [["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]],
    "plotlyServerURL": "",
}
_BARE = {**_CONFIG, "displayModeBar": False, "scrollZoom": False}
_MODEBAR = {"color": "#8a94a1", "activecolor": "#4a90d9"}
_BEHIND_MODEBAR = ("rgba(251,251,250,0.9)", "rgba(20,23,27,0.9)")
"""The page's colours, light and dark: where the buttons cover a legend they can still be read."""

# Dash 4.4 draws a figure again after every zoom, by which plotly takes the zoom for the figure's own and its uirevision
# comes to nothing. So what the user has changed is seen here, by the ranges that were made, and carried over.
_KEEP_ZOOM = """
function (made, shown) {
    if (!made) return window.dash_clientside.no_update;
    const figure = structuredClone(made), axes = {};
    for (const name of Object.keys(figure.layout).filter((key) => /^[xy]axis[0-9]*$/.test(key))) {
        axes[name] = figure.layout[name].range || null;
    }
    figure.layout.meta = {axes};
    const before = shown && shown.layout && shown.layout.meta && shown.layout.meta.axes;
    if (!before) return figure;
    for (const name of Object.keys(axes)) {
        const now = shown.layout[name];
        if (!now || !now.range || now.autorange || JSON.stringify(now.range) === JSON.stringify(before[name])) continue;
        Object.assign(figure.layout[name], {range: [...now.range], autorange: false});
    }
    for (const trace of figure.data) {
        const same = shown.data.find((other) => other.name && other.name === trace.name);
        if (same && same.visible === "legendonly") trace.visible = "legendonly";
    }
    return figure;
}
"""


def _of_card(study: Snapshot, key: str, dark: bool) -> Any:
    """The progress, small."""
    figure = figures.progress(study, dark=dark)
    return figure.update_layout(height=230, margin={"t": 10}, showlegend=False, font={"size": 11}, dragmode=False)


FIGURES: dict[str, Callable[[Snapshot, str, bool], Any]] = {
    "card": _of_card,
    "progress": lambda study, key, dark: figures.progress(study, dark=dark),
    "intervals": lambda study, key, dark: figures.intervals(study.leaderboard().head(_TOP), dark=dark),
    "map": lambda study, key, dark: figures.space_map(study, dark=dark),
    "operators": lambda study, key, dark: figures.operators(study, dark=dark),
    "complexity": lambda study, key, dark: figures.complexity(study, dark=dark),
    "learning": lambda study, key, dark: figures.learning(study, study.leaderboard().head(_TOP), dark=dark),
    "failures": lambda study, key, dark: figures.failures(study, dark=dark),
    "curves": lambda study, key, dark: figures.curves(functions.beside_known(study, key), dark=dark),
    "learning of one": lambda study, key, dark: figures.learning(study, functions.rows_of(study, key), dark=dark),
}
"""Figures by name: of a study, a function's key (if it is of one), and whether the page is dark."""


def graph(slug: str, name: str, label: str, key: str = "", height: int = 420) -> html.Figure:
    """A place for a figure, which is filled once the page stands.

    Args:
        slug: the study.
        name: one of :data:`FIGURES`.
        label: what it shows, for those who do not see it.
        key: of the function, if it is about one.
        height: until it is there.
    """
    where = {"run": slug, "name": name, "key": key}
    figure = dcc.Graph(
        id={"type": "figure", **where},
        figure=_waiting(height, "The map is being computed ..." if name == "map" else ""),
        config=_BARE if name == "card" else _CONFIG,
    )
    stores = [dcc.Store(id={"type": kind, **where}) for kind in ("made", "drawn")]
    return html.Figure([figure, *stores], role="img", **{"aria-label": label})


def _waiting(height: int, text: str) -> dict[str, Any]:
    """What is there until the figure is."""
    hidden, clear = {"visible": False}, "rgba(0,0,0,0)"
    note = {"text": text, "showarrow": False, "xref": "paper", "yref": "paper", "x": 0.5, "y": 0.5}
    layout = {"paper_bgcolor": clear, "plot_bgcolor": clear, "xaxis": hidden, "yaxis": hidden, "height": height}
    return {"data": [], "layout": {**layout, "annotations": [{**note, "font": {"color": "#8a94a1"}}]}}


class Drawings:
    """Figures that were made, the last ones of them."""

    def __init__(self, kept: int = 64) -> None:
        self._kept = kept
        self._made: OrderedDict[tuple[str, str, str, bool], tuple[str, Any]] = OrderedDict()
        self._locks: dict[tuple[str, str, str, bool], threading.Lock] = {}

    def get(self, study: Snapshot, name: str, key: str, dark: bool) -> Any:
        """A figure of a study as it is; two that ask for the same one wait for one making."""
        place, stamp = (study.slug, name, key, dark), stamp_of(study, name)
        with self._locks.setdefault(place, threading.Lock()):
            if place in self._made and self._made[place][0] == stamp:
                return self._made[place][1]
            figure = _make(study, name, key, dark)
            self._made[place] = (stamp, figure)
            while len(self._made) > self._kept:
                oldest, _ = self._made.popitem(last=False)
                self._locks.pop(oldest, None)
        return figure


def _make(study: Snapshot, name: str, key: str, dark: bool) -> Any:
    try:
        figure = FIGURES[name](study, key, dark)
    except Exception as error:  # of one figure: the rest of the page is worth seeing
        _log.warning("%s of %s: %s", name, study.path, error, exc_info=True)
        figure = figures.empty(f"This figure cannot be drawn ({type(error).__name__}: {error})", dark)
    return figure.update_layout(autosize=True, modebar={**_MODEBAR, "bgcolor": _BEHIND_MODEBAR[dark]})


def stamp_of(study: Snapshot, name: str) -> str:
    """Equal as long as a figure need not be made again. The map takes seconds: it waits for a fifth more functions."""
    if name == "map" and study.running:
        return f"about 1.2 ** {round(math.log(1 + len(study.leaderboard())) / math.log(1.2))}"
    return study.version


def draw(studies: Studies, drawings: Drawings, where: dict[str, str], dark: bool | None, drawn: str | None) -> Any:
    """The figure for a place and the stamp of it; nothing if it is there already."""
    try:
        study = studies.get(where["run"])
    except KeyError:
        raise PreventUpdate from None
    if dark is None or not isinstance(study, Snapshot) or where["name"] not in FIGURES:
        raise PreventUpdate
    stamp = f"{stamp_of(study, where['name'])} {'dark' if dark else 'light'}"
    if stamp == drawn:
        raise PreventUpdate
    return drawings.get(study, where["name"], where["key"], dark), stamp


def register(app: Dash, studies: Studies) -> None:
    drawings = Drawings()
    place = {"run": MATCH, "name": MATCH, "key": MATCH}

    @app.callback(
        Output({"type": "made", **place}, "data"),
        Output({"type": "drawn", **place}, "data"),
        Input("pulse", "data"),
        Input("dark", "data"),
        State({"type": "drawn", **place}, "data"),
        State({"type": "figure", **place}, "id"),
    )
    def _draw(_pulse: object, dark: bool | None, drawn: str | None, where: dict[str, str]) -> Any:
        return draw(studies, drawings, where, dark, drawn)

    app.clientside_callback(
        _KEEP_ZOOM,
        Output({"type": "figure", **place}, "figure"),
        Input({"type": "made", **place}, "data"),
        State({"type": "figure", **place}, "figure"),
        prevent_initial_call=True,
    )
