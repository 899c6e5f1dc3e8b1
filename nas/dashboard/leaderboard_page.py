"""The leaderboard of a study: searched, ordered and cut into pages by the server, so that 20,000 rows are no burden."""

from __future__ import annotations

from typing import Any

from dash import ALL, MATCH, Dash, Input, Output, State, ctx, dcc, html
from dash.exceptions import PreventUpdate

from analysis.trials import to_records
from analysis.wording import kind
from nas.dashboard.board import COLUMNS, ROWS, Query, columns_of, find, page_of
from nas.dashboard.elements import formula_link, message
from nas.dashboard.graphs import graph
from nas.dashboard.studies import Snapshot, Studies
from nas.dashboard.summary import home
from nas.tables import leaderboard_note

_FAMILIES = {"swish": "like Swish", "relu": "like ReLU", "known": "any known one"}
_STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running"}
_ONLY = {"confirmed": "confirmed", "found": "no baselines", "pareto": "none better and smaller"}
_FILTERS = ("text", "family", "state", "nodes", "only", "setting")
_TURNS = ("first", "previous", "next", "last")


def leaderboard(study: Snapshot) -> list[Any]:
    """The frame; its rows follow."""
    slug, shown = study.slug, {kind(study.objective)}
    for setting in (None, *study.settings):
        shown |= set(columns_of(study.leaderboard(setting=setting)))
    names = [name for name in COLUMNS if name in shown]
    return [
        controls(study),
        html.P(id=_at("count", slug), className="hint", role="status"),
        html.Div(
            html.Table(
                [html.Thead(html.Tr([heading(slug, name) for name in names])), html.Tbody(id=_at("rows", slug))]
            ),
            className="scroll board",
        ),
        html.Nav(
            [
                html.Button(turn.capitalize(), id={"type": "board-turn", "run": slug, "to": turn}, n_clicks=0)
                for turn in _TURNS
            ],
            id=_at("turns", slug),
            className="turns",
            **{"aria-label": "Pages of the leaderboard"},
        ),
        html.P(leaderboard_note(study.leaderboard()), className="hint"),
        html.H2("The best, with 95 % intervals"),
        graph(slug, "intervals", "Means of the best functions with their intervals"),
        dcc.Store(id=_at("order", slug), storage_type="session", data={"sort": "rank", "turned": False}),
        dcc.Store(id=_at("page", slug), storage_type="session", data=0),
        dcc.Store(id=_at("shown", slug)),
        dcc.Store(id=_at("drawn", slug)),
    ]


def _at(part: str, slug: str) -> dict[str, str]:
    return {"type": f"board-{part}", "run": slug}


def controls(study: Snapshot) -> html.Div:
    """What to look for. The browser keeps it for each study, so that going back finds the same rows."""
    slug = study.slug
    kept: dict[str, Any] = {"persistence": slug, "persistence_type": "session"}
    own = {"": home(study), **{name: name for name in study.settings}}
    inputs = [
        ("contains", dcc.Input(id=_at("text", slug), type="search", debounce=0.4, placeholder="such as tanh", **kept)),
        ("nodes, at most", dcc.Input(id=_at("nodes", slug), type="number", min=1, step=1, debounce=0.4, **kept)),
    ]
    others = [
        ("family", _choice(_at("family", slug), {"": "all", **_FAMILIES}, kept)),
        ("state", _choice(_at("state", slug), {"": "all", **_STATES}, kept)),
        ("trained on", _choice(_at("setting", slug), own, kept)),
        ("only", dcc.Checklist(id=_at("only", slug), options=_options(_ONLY), value=[], inline=True, **kept)),
    ]
    return html.Div(
        [
            *(html.Label([html.Span(text), control], className="control") for text, control in inputs),
            *(
                html.Div([html.Span(text), control], className="control", hidden=text == "trained on" and len(own) == 1)
                for text, control in others
            ),
        ],
        className="controls",
    )


def _options(words: dict[str, str]) -> list[dict[str, str]]:
    return [{"label": word, "value": value} for value, word in words.items()]


def _choice(where: dict[str, str], words: dict[str, str], kept: dict[str, Any]) -> dcc.Dropdown:
    return dcc.Dropdown(id=where, options=_options(words), value="", clearable=False, searchable=False, **kept)


def heading(slug: str, name: str) -> html.Th:
    column = COLUMNS[name]
    button = html.Button(
        column.header, id={"type": "board-sort", "run": slug, "column": name}, n_clicks=0, title=column.meaning
    )
    return html.Th(
        button,
        id={"type": "board-heading", "run": slug, "column": name},
        scope="col",
        className=heading_class(name, {}),
    )


def heading_class(name: str, order: dict[str, Any], absent: bool = False) -> str:
    kind = "absent" if absent else "number" if COLUMNS[name].numeric else "text"
    return kind if order.get("sort") != name else f"{kind} sorted {'turned' if order.get('turned') else ''}".strip()


def row(slug: str, record: dict[str, Any], names: list[str]) -> html.Tr:
    """A row; its link covers all of it."""
    cells = [
        html.Td(
            formula_link(slug, record) if name == "formula" else COLUMNS[name].cell(record),
            className="number" if COLUMNS[name].numeric else "text",
        )
        for name in names
    ]
    return html.Tr(cells)


def query_of(filters: dict[str, Any], order: dict[str, Any]) -> Query:
    """What the controls say. A browser may send anything; what is of no use is passed over."""
    texts = {
        name: value for name in ("text", "family", "state", "setting") if isinstance(value := filters.get(name), str)
    }
    nodes, only = filters.get("nodes"), filters.get("only")
    return Query(
        **texts,
        max_nodes=nodes if isinstance(nodes, int | float) else None,
        only=tuple(only) if isinstance(only, list) else (),
        sort=str(order.get("sort", "rank")),
        turned=bool(order.get("turned")),
    )


def next_order(order: dict[str, Any] | None, column: str) -> dict[str, Any]:
    """Best first by that column; worst first if it was that already."""
    order = order or {}
    return {"sort": column, "turned": order.get("sort") == column and not order.get("turned")}


def turned_page(page: int | None, to: str) -> int:
    """The page to go to; a last one that is too far is brought back where it is shown."""
    return {"first": 0, "previous": max(0, (page or 0) - 1), "next": (page or 0) + 1, "last": 10**9}[to]


def present(study: Snapshot, query: Query, names: list[str]) -> list[str]:
    """Those of the columns that say something in that setting."""
    setting = query.setting if query.setting in study.settings else None
    some = columns_of(study.leaderboard(setting=setting))
    return [name for name in names if name in some]


def fill(study: Snapshot, query: Query, page: int, names: list[str]) -> tuple[list[Any], str, int, int]:
    """The rows of a page, what they are, its number, and how many pages there are."""
    wanted = find(study, query)
    part, page, pages = page_of(wanted, page)
    if part.empty:
        return [html.Tr(html.Td(message("No function is like that."), colSpan=len(names)))], "0 functions", 0, 1
    first = page * ROWS + 1
    count = f"{len(wanted):,} function{'s' * (len(wanted) != 1)}"
    if pages > 1:
        count = f"{first:,} to {first + len(part) - 1:,} of {count}; page {page + 1:,} of {pages:,}"
    return [row(study.slug, record, names) for record in to_records(part)], count, page, pages


def dead_ends(page: int, pages: int, places: list[str]) -> list[bool]:
    """Which of the buttons lead nowhere."""
    return [page == 0 if to in ("first", "previous") else page >= pages - 1 for to in places]


def register(app: Dash, studies: Studies) -> None:
    filters = {name: Input({"type": f"board-{name}", "run": MATCH}, "value") for name in _FILTERS}
    _register_turns(app, filters)
    _register_rows(app, studies, filters)


def _register_turns(app: Dash, filters: dict[str, Input]) -> None:
    """The order, and the page, which another order or filter puts back to the first."""
    run = MATCH

    @app.callback(
        Output({"type": "board-order", "run": run}, "data"),
        Input({"type": "board-sort", "run": run, "column": ALL}, "n_clicks"),
        State({"type": "board-order", "run": run}, "data"),
        prevent_initial_call=True,
    )
    def _sort(clicks: list[int], order: dict[str, Any] | None) -> Any:
        if not any(clicks) or not isinstance(ctx.triggered_id, dict):
            raise PreventUpdate
        return next_order(order, ctx.triggered_id["column"])

    @app.callback(
        Output({"type": "board-page", "run": run}, "data"),
        inputs={
            "clicks": Input({"type": "board-turn", "run": run, "to": ALL}, "n_clicks"),
            "_filters": filters,
            "_order": Input({"type": "board-order", "run": run}, "data"),
            "shown": State({"type": "board-shown", "run": run}, "data"),
        },
        prevent_initial_call=True,
    )
    def _turn(clicks: list[int], _filters: object, _order: object, shown: int | None) -> Any:
        to = ctx.triggered_id
        if isinstance(to, dict) and to["type"] == "board-turn":
            return turned_page(shown, to["to"]) if any(clicks) else shown
        return 0


def _register_rows(app: Dash, studies: Studies, filters: dict[str, Input]) -> None:
    run = MATCH

    @app.callback(
        output=[
            Output({"type": "board-rows", "run": run}, "children"),
            Output({"type": "board-count", "run": run}, "children"),
            Output({"type": "board-heading", "run": run, "column": ALL}, "className"),
            Output({"type": "board-turn", "run": run, "to": ALL}, "disabled"),
            Output({"type": "board-turns", "run": run}, "hidden"),
            Output({"type": "board-shown", "run": run}, "data"),
            Output({"type": "board-drawn", "run": run}, "data"),
        ],
        inputs={
            "_pulse": Input("pulse", "data"),
            "filters": filters,
            "order": Input({"type": "board-order", "run": run}, "data"),
            "page": Input({"type": "board-page", "run": run}, "data"),
            "headings": State({"type": "board-heading", "run": run, "column": ALL}, "id"),
            "turns": State({"type": "board-turn", "run": run, "to": ALL}, "id"),
            "drawn": State({"type": "board-drawn", "run": run}, "data"),
        },
    )
    def _fill(
        _pulse: object,
        filters: dict[str, Any],
        order: dict[str, Any] | None,
        page: int | None,
        headings: list[dict[str, str]],
        turns: list[dict[str, str]],
        drawn: str | None,
    ) -> Any:
        study = _readable(studies, headings)
        if ctx.triggered_id == "pulse" and study.version == drawn:
            raise PreventUpdate
        names, query = [heading["column"] for heading in headings], query_of(filters, order or {})
        some = present(study, query, names)
        rows, count, shown, pages = fill(study, query, page or 0, some)
        classes = [heading_class(name, order or {}, name not in some) for name in names]
        dead = dead_ends(shown, pages, [turn["to"] for turn in turns])
        return rows, count, classes, dead, pages == 1, shown, study.version


def _readable(studies: Studies, headings: list[dict[str, str]]) -> Snapshot:
    try:
        study = studies.get(headings[0]["run"])
    except (KeyError, IndexError):
        raise PreventUpdate from None
    if not isinstance(study, Snapshot):
        raise PreventUpdate
    return study
