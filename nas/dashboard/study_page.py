"""The page of a study: a head that follows it, and one of its sections at a time, each with an address of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import yaml
from dash import MATCH, Dash, Input, Output, State, ctx, dcc, html, no_update
from dash.exceptions import PreventUpdate

from analysis.searched import failures_by_reason
from nas.dashboard import links
from nas.dashboard.elements import facts, message, table
from nas.dashboard.graphs import graph
from nas.dashboard.leaderboard_page import leaderboard
from nas.dashboard.studies import Snapshot, Studies, Trouble
from nas.dashboard.summary import best_line, state_badge, summarize


def progress(study: Snapshot) -> list[Any]:
    return [graph(study.slug, "progress", "Results in the order of the trials")]


def space(study: Snapshot) -> list[Any]:
    hint = "Functions with similar graphs are near each other. A new map takes some seconds."
    return [html.P(hint, className="hint"), graph(study.slug, "map", "Map of the functions", height=560)]


def operators(study: Snapshot) -> list[Any]:
    hint = (
        "Their share among the best tenth of the functions, with 95 % intervals, and among all. Dark: beyond chance. "
        "An operator may be there because of its company."
    )
    return [
        html.H2("Operators of the best"),
        html.P(hint, className="hint"),
        graph(study.slug, "operators", "Share of operators among the best functions and all"),
        html.H2("Size"),
        html.P("Results by number of nodes, and what became of all functions of that size.", className="hint"),
        graph(study.slug, "complexity", "Results by number of nodes"),
    ]


def learning(study: Snapshot) -> list[Any]:
    hint = "The best twelve: every seed thin, their mean bold."
    return [html.P(hint, className="hint"), graph(study.slug, "learning", "Learning curves of the best functions")]


def failures(study: Snapshot) -> list[Any]:
    rows = [
        [f"{row.trials:,}", f"{row.functions:,}", row.example if row.trials == 1 else row.pattern]
        for row in failures_by_reason(study).head(50).itertuples()
    ]
    header = ["trials", "functions", "reason (N: any number)"]
    found = [table(header, rows, ["trials", "functions"])] if rows else []
    return [graph(study.slug, "failures", "Failed trials by reason", height=160), *found]


def configuration(study: Snapshot) -> list[Any]:
    about = {name: value for name, value in study.about.items() if name not in ("config", "known_keys", "warm_start")}
    return [
        html.H2("Configuration"),
        html.Pre(_as_yaml(study.config), className="code"),
        html.H2("About the study"),
        html.Pre(_as_yaml(about), className="code"),
    ]


def _as_yaml(values: Any) -> str:
    return str(yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100))


SECTIONS: dict[str, tuple[str, Callable[[Snapshot], list[Any]]]] = {
    "progress": ("Progress", progress),
    "leaderboard": ("Leaderboard", leaderboard),
    "map": ("Map", space),
    "operators": ("Operators", operators),
    "learning": ("Learning curves", learning),
    "failures": ("Failures", failures),
    "configuration": ("Configuration", configuration),
}
_FOLLOWED = ("failures",)
"""Sections whose text changes with the study."""


def study_page(study: Snapshot | Trouble, section: str) -> html.Main:
    """The page with that section open."""
    slug = study.slug
    body = [message(study.message)] if isinstance(study, Trouble) else SECTIONS[section][1](study)
    names = [
        dcc.Link(title, href=links.study(slug, name), className="open" if name == section else "")
        for name, (title, _) in SECTIONS.items()
    ]
    return html.Main(
        [
            html.Div(head(study), id={"type": "study-head", "run": slug}),
            html.Nav(names, className="sections", **{"aria-label": "Sections"}),
            html.Section(body, id={"type": "study-body", "run": slug, "section": section}),
            dcc.Store(id={"type": "study-drawn", "run": slug, "section": section}, data=_stamp(study)),
        ]
    )


def _stamp(study: Snapshot | Trouble) -> list[Any]:
    return [study.version, isinstance(study, Trouble)]


def head(study: Snapshot | Trouble) -> list[Any]:
    """What is to be seen above every section."""
    title = html.Div([html.H1(study.slug), state_badge(study)], className="title")
    if isinstance(study, Trouble):
        return [title]
    about = summarize(study)
    rows = [
        ("search", about.searched),
        ("trials", about.trials),
        ("best", html.Span(best_line(study, about.best))),
        ("best find", html.Span(best_line(study, about.find)) if about.find else None),
        ("confirmed in", ", ".join(study.settings)),
    ]
    return [title, html.P(about.task, className="task"), facts(rows)]


def body_of(study: Snapshot | Trouble, section: str, drawn: list[Any] | None) -> Any:
    """The section as it is now; nothing if it need not be made again: figures and leaderboards follow by themselves."""
    if isinstance(study, Trouble):
        return [message(study.message)]
    was_trouble = bool(drawn and drawn[1])
    return SECTIONS[section][1](study) if was_trouble or section in _FOLLOWED else no_update


def register(app: Dash, studies: Studies) -> None:
    place = {"run": MATCH, "section": MATCH}

    @app.callback(
        Output({"type": "study-body", **place}, "children"),
        Output({"type": "study-drawn", **place}, "data"),
        Input("pulse", "data"),
        State({"type": "study-drawn", **place}, "data"),
        prevent_initial_call=True,
    )
    def _follow(_pulse: object, drawn: list[Any] | None) -> Any:
        where = ctx.outputs_list[0]["id"]
        study = _get(studies, where["run"])
        if drawn == _stamp(study) or where["section"] not in SECTIONS:
            raise PreventUpdate
        return body_of(study, where["section"], drawn), _stamp(study)

    @app.callback(
        Output({"type": "study-head", "run": MATCH}, "children"),
        Input("pulse", "data"),
        State({"type": "study-head", "run": MATCH}, "id"),
        prevent_initial_call=True,
    )
    def _head(_pulse: object, where: dict[str, str]) -> Any:
        return head(_get(studies, where["run"]))


def _get(studies: Studies, slug: str) -> Snapshot | Trouble:
    try:
        return studies.get(slug)
    except KeyError:
        raise PreventUpdate from None
