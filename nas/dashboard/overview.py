"""The first page: the studies side by side."""

from __future__ import annotations

from typing import Any

from dash import ALL, MATCH, Dash, Input, Output, State, ctx, dcc, html
from dash.exceptions import PreventUpdate

from nas.dashboard import links
from nas.dashboard.elements import facts, message
from nas.dashboard.graphs import graph
from nas.dashboard.studies import Snapshot, Studies, Trouble
from nas.dashboard.summary import best_line, state_badge, summarize


def overview(studies: Studies) -> html.Main:
    slugs = studies.slugs()
    return html.Main(
        [
            html.Div(
                [html.H1("Studies"), html.Div(comparison_link([]), id="compare")],
                className="bar",
            ),
            html.Div(cards(slugs), id="cards", className="cards"),
            dcc.Store(id="carded", data=slugs),
        ]
    )


def cards(slugs: list[str]) -> list[Any]:
    if not slugs:
        return [
            message(
                "There is no study here yet. One appears as soon as it starts, for instance with: nas search digits"
            )
        ]
    return [card(slug) for slug in slugs]


def card(slug: str) -> html.Article:
    """The frame of a card, which is filled once the page stands."""
    return html.Article(
        [
            html.Div(
                [
                    html.H2(dcc.Link(slug, href=links.study(slug))),
                    html.Span(id={"type": "card-state", "run": slug}),
                    dcc.Checklist(
                        id={"type": "picked", "run": slug},
                        options=[{"label": "compare", "value": slug}],
                        value=[],
                        className="pick",
                    ),
                ],
                className="card-head",
            ),
            html.Div(id={"type": "card-body", "run": slug}),
            graph(slug, "card", f"Progress of {slug}", height=230),
            dcc.Store(id={"type": "card-drawn", "run": slug}),
        ],
        className="card",
    )


def card_body(study: Snapshot | Trouble) -> list[Any]:
    """What a card says."""
    if isinstance(study, Trouble):
        return [message(study.message)]
    about = summarize(study)
    return [
        html.P(about.task, className="task"),
        facts(
            [
                ("search", about.searched),
                ("trials", about.trials),
                ("best", html.Span(best_line(study, about.best))),
                ("best find", html.Span(best_line(study, about.find)) if about.find else None),
            ]
        ),
    ]


def comparison_link(picked: list[str]) -> Any:
    if len(picked) < 2:
        return html.Span("Tick two or more to compare them", className="hint")
    return dcc.Link(f"Compare {len(picked)} studies", href=links.comparison(picked), className="button")


def register(app: Dash, studies: Studies) -> None:
    @app.callback(
        Output({"type": "card-state", "run": MATCH}, "children"),
        Output({"type": "card-body", "run": MATCH}, "children"),
        Output({"type": "card-drawn", "run": MATCH}, "data"),
        Input("pulse", "data"),
        State({"type": "card-drawn", "run": MATCH}, "data"),
    )
    def _fill(_pulse: object, drawn: str | None) -> Any:
        try:
            study = studies.get(ctx.outputs_list[0]["id"]["run"])
        except KeyError:
            raise PreventUpdate from None
        if study.version == drawn:
            raise PreventUpdate
        return state_badge(study), card_body(study), study.version

    @app.callback(
        Output("cards", "children"),
        Output("carded", "data"),
        Input("pulse", "data"),
        State("carded", "data"),
        prevent_initial_call=True,
    )
    def _appear(_pulse: object, carded: list[str]) -> Any:
        slugs = studies.slugs()
        if slugs == carded:
            raise PreventUpdate
        return cards(slugs), slugs

    @app.callback(Output("compare", "children"), Input({"type": "picked", "run": ALL}, "value"))
    def _pick(values: list[list[str]]) -> Any:
        return comparison_link([slug for value in values for slug in value or []])
