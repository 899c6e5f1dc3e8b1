"""Small parts of pages. All text is text: React escapes it, and nothing here takes HTML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dash import dcc, html

from analysis.wording import likeness
from nas.dashboard import links

STATES = ("COMPLETE", "PRUNED", "FAIL", "RUNNING")
_WORDS = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running"}
_STAGES = {"confirm": "confirmed", "retrain": "retrained", "search": "searched"}
_SCALES = {"accuracy": (100, 2)}
"""Factor and digits after the point with which a kind of metric is shown."""


def spread(kind: str, mean: float | None, std: float | None, sign: str = "") -> str:
    """A mean with its spread, if both are known; an accuracy in per cent."""
    if mean is None:
        return ""
    scale, digits = _SCALES.get(kind, (1, 3))
    text = f"{mean * scale:{sign}.{digits}f}"
    return text if std is None else f"{text} ± {std * scale:.{digits}f}"


def state_word(state: str, stage: str) -> str:
    """``confirmed``, or what went otherwise."""
    return _STAGES.get(stage, stage) if state == "COMPLETE" else _WORDS.get(state, state)


def counted(counts: Mapping[str, int]) -> str:
    """Trials by state, in words."""
    return ", ".join(f"{counts[state]:,} {_WORDS[state]}" for state in STATES if counts.get(state)) or "no trials yet"


def badge(text: str, kind: str = "") -> html.Span:
    return html.Span(text, className=f"badge {kind}".strip())


def message(text: str) -> html.P:
    """A sentence in place of what cannot be shown."""
    return html.P(text, className="message", role="status")


def facts(pairs: Iterable[tuple[str, Any]]) -> html.Dl:
    """Names and what they are, without those that are nothing."""
    return html.Dl(
        [html.Div([html.Dt(name), html.Dd(value)]) for name, value in pairs if value not in (None, "")],
        className="facts",
    )


def table(header: Sequence[str], rows: Iterable[Sequence[Any]], numeric: Sequence[str] = ()) -> html.Div:
    """A plain table; the columns ``numeric`` stand at the right."""
    classes = ["number" if name in numeric else "" for name in header]
    head = html.Tr([html.Th(name, className=c, scope="col") for name, c in zip(header, classes, strict=True)])
    body = [html.Tr([html.Td(cell, className=c) for cell, c in zip(row, classes, strict=True)]) for row in rows]
    return html.Div(html.Table([html.Thead(head), html.Tbody(body)]), className="scroll")


def formula_link(slug: str, row: Mapping[str, Any]) -> list[Any]:
    """The formula, leading to its page, with what it is like."""
    cell: list[Any] = [dcc.Link(row["formula"], href=links.function(slug, row["function_key"]), className="formula")]
    if like := likeness(row):
        cell += [" ", html.Span(like, className="likeness")]
    if not row.get("found", True):
        cell += [" ", html.Span("baseline", className="baseline")]
    return cell


def copyable(text: str, label: str) -> html.Div:
    """A text with a button that copies it."""
    return html.Div(
        [dcc.Clipboard(content=text, title=f"Copy {label}", className="copy"), html.Pre(text, className="code")],
        className="copyable",
    )


def pick(config: Any, *path: str) -> str:
    """A value within a configuration, as text; empty if there is none: somebody else's file may hold anything."""
    for name in path:
        config = config.get(name) if isinstance(config, dict) else None
    return "" if config is None or isinstance(config, dict | list) else str(config)


def not_found(text: str) -> html.Main:
    return html.Main([html.H1("Not here"), message(text), dcc.Link("All studies", href=links.OVERVIEW)])
