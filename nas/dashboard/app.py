"""The application: what is on every page, and which page an address means."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import plotly.io
from dash import Dash, Input, Output, State, dcc, html
from dash.exceptions import PreventUpdate

from nas.dashboard import comparison, function_page, graphs, leaderboard_page, links, overview, security, study_page
from nas.dashboard.elements import not_found
from nas.dashboard.studies import Studies

TICK_SECONDS = 2.0
"""How often the browser asks whether something is new."""
_FOLLOW_SCHEME = """
function () {
    const query = window.matchMedia("(prefers-color-scheme: dark)");
    query.onchange = (event) => window.dash_clientside.set_props("dark", {data: event.matches});
    return query.matches;
}
"""
_SET_TITLE = """
function (pathname) {
    const parts = (pathname || "").split("/").filter(Boolean).map(decodeURIComponent);
    document.title = parts.length > 1 ? parts[1] + " - nas" : "nas";
    return window.dash_clientside.no_update;
}
"""


def make_app(runs: Sequence[Path]) -> Dash:
    """A dashboard of studies. It is a Flask application, ``.server``, that answers to localhost only.

    Args:
        runs: studies' directories, and directories of such.
    """
    plotly.io.json.config.default_engine = "json"
    app = Dash(
        "nas.dashboard",
        title="nas",
        update_title=None,
        assets_folder=str(Path(__file__).parent / "assets"),
        serve_locally=True,
        suppress_callback_exceptions=True,
        add_log_handler=False,
        enable_mcp=False,
        use_pages=False,
        meta_tags=[{"name": "viewport", "content": "width=device-width, initial-scale=1"}],
    )
    app.enable_dev_tools(debug=False, dev_tools_disable_version_check=True)
    studies = Studies(runs)
    app.layout = frame
    security.guard(app.server)
    for part in (graphs, overview, comparison, study_page, leaderboard_page, function_page):
        part.register(app, studies)
    _register(app, studies)
    return app


def frame() -> html.Div:
    """What is on every page."""
    return html.Div(
        [
            dcc.Location(id="url"),
            dcc.Interval(id="tick", interval=int(1000 * TICK_SECONDS)),
            dcc.Store(id="pulse"),
            dcc.Store(id="dark"),
            dcc.Store(id="titled"),
            html.Header([dcc.Link("nas", href=links.OVERVIEW, className="home"), html.Nav(id="trail")]),
            html.Div(id="page"),
        ]
    )


def page(studies: Studies, pathname: str | None) -> Any:
    """What an address means; none leads to a file."""
    kind, *rest = links.parts_of(pathname) or ["overview"]
    known = studies.slugs()
    if kind == "overview" and not rest:
        return overview.overview(studies)
    if kind == "compare" and rest and set(rest) <= set(known):
        return comparison.comparison(list(dict.fromkeys(rest)))
    if kind in ("study", "function") and rest and rest[0] not in known:
        return not_found("None of the studies that this dashboard shows is called that.")
    if kind == "study" and len(rest) == 1:
        return study_page.study_page(studies.get(rest[0]), "progress")
    if kind == "study" and len(rest) == 2 and rest[1] in study_page.SECTIONS:
        return study_page.study_page(studies.get(rest[0]), rest[1])
    if kind == "function" and len(rest) == 2:
        return function_page.function_page(studies.get(rest[0]), rest[1])
    return not_found("There is no such page.")


def trail(studies: Studies, pathname: str | None) -> list[Any]:
    """Where one is."""
    kind, *rest = links.parts_of(pathname) or ["overview"]
    if kind in ("study", "function") and rest and rest[0] in studies.slugs():
        return [dcc.Link(rest[0], href=links.study(rest[0]))]
    return []


def _register(app: Dash, studies: Studies) -> None:
    @app.callback(Output("page", "children"), Output("trail", "children"), Input("url", "pathname"))
    def _route(pathname: str | None) -> Any:
        return page(studies, pathname), trail(studies, pathname)

    @app.callback(Output("pulse", "data"), Input("tick", "n_intervals"), State("pulse", "data"))
    def _beat(_ticks: object, pulse: dict[str, str] | None) -> Any:
        versions = studies.versions()
        if versions == pulse:
            raise PreventUpdate
        return versions

    app.clientside_callback(_FOLLOW_SCHEME, Output("dark", "data"), Input("titled", "id"))
    app.clientside_callback(_SET_TITLE, Output("titled", "data"), Input("url", "pathname"))
