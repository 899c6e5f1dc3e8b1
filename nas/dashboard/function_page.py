"""The page of one function: what it is, how it did, and a module to take along."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pandas as pd
from dash import MATCH, Dash, Input, Output, State, dcc, html
from dash.exceptions import PreventUpdate

from analysis.properties import SYMPY_SECONDS
from analysis.trials import to_records
from analysis.wording import likeness
from nas.dashboard import functions, links
from nas.dashboard.board import COLUMNS, columns_of, merged
from nas.dashboard.elements import badge, copyable, facts, message, state_word, table
from nas.dashboard.graphs import graph
from nas.dashboard.studies import Snapshot, Studies, Trouble
from nas.dashboard.summary import home

_log = logging.getLogger(__name__)
_NOT_FOUND = f"not found by sympy within {SYMPY_SECONDS:.0f} seconds"
_METRICS = ("val_accuracy", "val_loss", "val_bpb", "test_accuracy", "test_loss", "test_bpb")


def function_page(study: Snapshot | Trouble, key: str) -> html.Main:
    """All that is known at once; what sympy has to say follows."""
    back = html.P(
        dcc.Link(f"Leaderboard of {study.slug}", href=links.study(study.slug, "leaderboard")), className="back"
    )
    if isinstance(study, Trouble):
        return html.Main([back, message(study.message)])
    row = functions.row_of(study, key)
    if row is None:
        return html.Main([back, message("This study has no such function.")])
    where = {"run": study.slug, "key": key}
    return html.Main(
        [
            back,
            html.Div([html.H1(row["formula"], className="formula"), *_badges(row)], className="title"),
            html.Div(id={"type": "results", **where}, children=results(study, key)),
            html.H2("Formula"),
            html.Div(message("Asking sympy ..."), id={"type": "forms", **where}),
            html.H2("Curves"),
            graph(study.slug, "curves", "The function and its derivative", key, 400),
            html.H2("Properties"),
            html.Div(message("Computing ..."), id={"type": "properties", **where}),
            html.H2("Learning curves"),
            graph(study.slug, "learning of one", "Learning curves", key, 440),
            html.H2("Trials"),
            html.Div(trials(study, key), id={"type": "trials", **where}),
            html.H2("Module"),
            html.P(
                "One file that needs torch only. nas export writes it too, with how it was found.", className="hint"
            ),
            _safely(lambda: copyable(functions.module_of(study, row), "the module")),
            dcc.Store(id={"type": "function-drawn", **where}, data=study.version),
        ]
    )


def _badges(row: dict[str, Any]) -> list[Any]:
    parts = [badge(state_word(row["state"], row["stage"]), row["state"].lower())]
    if like := likeness(row):
        parts.append(badge(like, "likeness"))
    return parts if row["found"] else [*parts, badge("baseline")]


def results(study: Snapshot, key: str) -> list[Any]:
    """Its row of every leaderboard that it is in."""
    found = {name: functions.rows_of(study, key, name) for name in (None, *study.settings)}
    rows = pd.concat([part.assign(where=name or home(study)) for name, part in found.items() if len(part)])
    names = [name for name in columns_of(rows) if name != "formula"]
    body = [[row["where"], *(COLUMNS[name].cell(row) for name in names)] for row in to_records(merged(rows))]
    numeric = [COLUMNS[name].header for name in names if COLUMNS[name].numeric]
    shown = table(["trained on", *(COLUMNS[name].header for name in names)], body, numeric)
    reason = (functions.row_of(study, key) or {}).get("reason")
    return [shown, *([facts([("reason", reason)])] if reason else [])]


def trials(study: Snapshot, key: str) -> html.Div:
    """A row a training."""
    rows = functions.trials_of(study, key)
    metrics = [name for name in _METRICS if rows[name].notna().any()]
    names = ["id", "stage", "setting", "seed", "state", *metrics, "epoch", "seconds", "attempts", "reason"]
    names = [name for name in names if rows[name].notna().any()]
    body = [[_text(name, record[name]) for name in names] for record in to_records(rows[names])]
    numeric = [name for name in names if name not in ("stage", "setting", "state", "reason")]
    header = [name.replace("_", " ") for name in names]
    return table(header, body, [name.replace("_", " ") for name in numeric])


def _text(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name.endswith("accuracy"):
        return f"{100 * value:.2f} %"
    if name == "state":
        return state_word(str(value), "complete")
    if isinstance(value, float):
        return f"{value:,.1f}" if name == "seconds" else f"{value:.4f}" if abs(value) < 1000 else f"{value:.4g}"
    return str(value)


def forms(study: Snapshot, key: str) -> html.Div:
    """What sympy makes of the formula."""
    row = functions.row_of(study, key)
    if row is None:
        raise KeyError(key)
    found = functions.forms(row["formula"])
    latex = found.get("latex")
    parts: list[Any] = [html.Dt("as it is trained"), html.Dd(html.Code(row["expression"]))]
    if latex and not latex.startswith("too long"):
        shown = dcc.Markdown(f"$$f(x) = {latex}$$", mathjax=True, className="latex")
        parts = [html.Dd(shown), *parts]
    parts += [html.Dt("LaTeX"), html.Dd(copyable(latex, "LaTeX") if latex else _NOT_FOUND)]
    derivative = found.get("derivative")
    parts += [html.Dt("f'(x)"), html.Dd(copyable(derivative, "the derivative") if derivative else _NOT_FOUND)]
    return html.Dl(parts, className="forms")


def properties(study: Snapshot, key: str) -> list[Any]:
    """Properties, each with how it is known."""
    row = functions.row_of(study, key)
    if row is None:
        raise KeyError(key)
    found, near = functions.described(row["formula"])
    rows = [[entry.name, entry.value, entry.source] for entry in found]
    return [
        facts([("nearest known", "; ".join(near))]),
        html.Div(table(["property", "", "known by"], rows), className="narrow"),
    ]


def _safely(make: Callable[[], Any]) -> Any:
    """A part of a page, or a sentence: a stored formula may be anything."""
    try:
        return make()
    except Exception as error:  # the rest of the page is worth seeing
        _log.warning("a part of a page cannot be shown: %s", error)
        detail = " ".join(str(error).split())[:300]
        return message(f"This cannot be shown ({type(error).__name__}: {detail})")


def register(app: Dash, studies: Studies) -> None:
    where = {"run": MATCH, "key": MATCH}

    def later(part: str, make: Callable[[Snapshot, str], Any]) -> None:
        """Make a part once the page stands."""

        @app.callback(
            Output({"type": part, **where}, "children"),
            Input({"type": part, **where}, "id"),
        )
        def _make(place: dict[str, str]) -> Any:
            study = _readable(studies, place["run"])
            return _safely(lambda: make(study, place["key"]))

    later("forms", forms)
    later("properties", properties)

    @app.callback(
        Output({"type": "results", **where}, "children"),
        Output({"type": "trials", **where}, "children"),
        Output({"type": "function-drawn", **where}, "data"),
        Input("pulse", "data"),
        State({"type": "function-drawn", **where}, "data"),
        State({"type": "results", **where}, "id"),
        prevent_initial_call=True,
    )
    def _follow(_pulse: object, drawn: str | None, place: dict[str, str]) -> Any:
        study = _readable(studies, place["run"])
        if study.version == drawn or functions.row_of(study, place["key"]) is None:
            raise PreventUpdate
        return results(study, place["key"]), trials(study, place["key"]), study.version


def _readable(studies: Studies, slug: str) -> Snapshot:
    try:
        study = studies.get(slug)
    except KeyError:
        raise PreventUpdate from None
    if not isinstance(study, Snapshot):
        raise PreventUpdate
    return study
