"""Studies side by side: what they did, how they went, and what they found, in one leaderboard."""

from __future__ import annotations

from typing import Any

from dash import Dash, Input, Output, State, dcc, html
from dash.exceptions import PreventUpdate

from analysis.filters import Wanted
from analysis.study import together
from analysis.trials import to_records
from analysis.wording import prose
from nas.dashboard import links
from nas.dashboard.board import COLUMNS, columns_of, merged
from nas.dashboard.elements import badge, formula_link, message, pick, table
from nas.dashboard.graphs import graph
from nas.dashboard.studies import Snapshot, Studies, Trouble
from nas.dashboard.summary import best_line, summarize

_TOP = 20


def comparison(slugs: list[str]) -> html.Main:
    """The frame; what is in it follows, and again when one of them has changed."""
    graphs = [
        html.Div(
            [html.H3(dcc.Link(slug, href=links.study(slug))), graph(slug, "card", f"Progress of {slug}", height=230)]
        )
        for slug in slugs
    ]
    return html.Main(
        [
            html.H1("Comparison"),
            html.Div(id="compared-facts"),
            html.H2("Progress"),
            html.Div(graphs, className="cards"),
            html.H2("Functions"),
            html.Div(id="compared-board"),
            dcc.Store(id="compared", data=slugs),
            dcc.Store(id="compared-drawn"),
        ]
    )


def side_by_side(studies: list[Snapshot | Trouble]) -> html.Div:
    """A column a study."""
    shown: dict[str, list[Any]] = {}
    for study in studies:
        for name, value in _facts(study).items():
            shown.setdefault(name, []).append((study.slug, value))
    rows = [[name, *(dict(values).get(study.slug, "") for study in studies)] for name, values in shown.items()]
    return table(["", *(study.slug for study in studies)], rows)


def _facts(study: Snapshot | Trouble) -> dict[str, Any]:
    if isinstance(study, Trouble):
        return {"state": [badge("unreadable", "unreadable"), message(study.message)]}
    about, config = summarize(study), study.config
    return {
        "state": badge(about.state, about.state),
        "strategy": pick(config, "strategy", "name"),
        "space": pick(config, "space", "name"),
        "model": pick(config, "model", "name"),
        "data": pick(config, "data", "name"),
        "epochs": pick(config, "trial", "epochs"),
        "seed": pick(config, "seed"),
        "objective": prose(study.objective),
        "search": about.searched,
        "trials": about.trials,
        "best": html.Span(best_line(study, about.best)),
        "best find": html.Span(best_line(study, about.find or about.best)),
    }


def joint_board(studies: list[Snapshot]) -> list[Any]:
    """The best of all, as ``nas leaderboard RUN RUN`` orders them."""
    if not studies:
        return [message("None of these can be read.")]
    rows = together(studies, Wanted()).head(_TOP)
    if rows.empty:
        return [message("Nothing is trained yet.")]
    names = [name for name in columns_of(rows) if name not in ("rank", "formula")]
    body = []
    for place, row in enumerate(to_records(merged(rows)), 1):
        slug = row.get("run", studies[0].slug)
        body.append([place, slug, formula_link(slug, row), *(COLUMNS[name].cell(row) for name in names)])
    header = ["#", "study", "function", *(COLUMNS[name].header for name in names)]
    note = (
        "Studies that trained alike are ordered by value; if they did not, by the difference to the ReLU of their own "
        "study, and with different objectives by their place in it. Nothing else of such studies can be compared."
    )
    return [
        html.P(note, className="hint"),
        table(header, body, numeric=["#", *(COLUMNS[name].header for name in names if COLUMNS[name].numeric)]),
    ]


def register(app: Dash, studies: Studies) -> None:
    @app.callback(
        Output("compared-facts", "children"),
        Output("compared-board", "children"),
        Output("compared-drawn", "data"),
        Input("pulse", "data"),
        State("compared", "data"),
        State("compared-drawn", "data"),
    )
    def _fill(_pulse: object, slugs: list[str], drawn: str | None) -> Any:
        known = set(studies.slugs())
        shown = [studies.get(slug) for slug in slugs if slug in known]
        stamp = " ".join(study.version for study in shown)
        if stamp == drawn:
            raise PreventUpdate
        return side_by_side(shown), joint_board([study for study in shown if isinstance(study, Snapshot)]), stamp
