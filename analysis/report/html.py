"""A report as one HTML file that needs nothing but a browser: plotly is in it, and nothing is asked of any server.

The page forbids itself to (Content-Security-Policy): no request goes anywhere, and no script runs but its own two, even
if a text of the study should try. Texts are escaped by Jinja, and by the figures (``analysis.figures.style.plain``);
the figures' JSON has no ``<`` in it, so that it cannot end the element it is in.
"""

from __future__ import annotations

import json
import secrets
from importlib.resources import files
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import plotly.io as pio
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from analysis import figures
from analysis.leaders import Leaders, leaders
from analysis.report import make_report
from analysis.report.parts import check_target, write_file
from analysis.study import Study


def write_html(study: Study, path: Path) -> None:
    """Write the report of a study.

    Raises:
        ReportError: the file cannot be written.
    """
    check_target(path)
    write_file(path, html(study))


def html(study: Study) -> str:
    """The page."""
    chosen = leaders(study)
    report = make_report(study, chosen)
    wanted = {section.figure for section in report.sections if section.figure}
    drawn = {name: figure for name, figure in all_figures(study, chosen).items() if name in wanted}
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page = environment.from_string(_resource("page.html"))
    return page.render(
        report=report,
        nonce=secrets.token_urlsafe(16),
        figures=Markup(_inert(as_json(drawn))),
        plotly=Markup(get_plotlyjs()),
        loader=Markup(_resource("page.js")),
    )


def all_figures(study: Study, chosen: Leaders) -> dict[str, go.Figure]:
    """Every figure by its name."""
    return {
        "progress": figures.progress(study),
        "intervals": figures.intervals(chosen.listed),
        "curves": figures.curves(chosen.expressions),
        "learning": figures.learning(study, chosen.drawn),
        "space_map": figures.space_map(study),
        "operators": figures.operators(study),
        "complexity": figures.complexity(study),
        "failures": figures.failures(study),
    }


def as_json(drawn: dict[str, go.Figure]) -> str:
    """The figures without their templates, and the two templates once."""
    parts: dict[str, Any] = {name: json.loads(figure.to_json()) for name, figure in drawn.items()}
    for part in parts.values():
        part["layout"].pop("template", None)
    templates = {
        name: pio.templates[template].to_plotly_json()
        for name, template in (("light", "plotly_white"), ("dark", "plotly_dark"))
    }
    return json.dumps({"figures": parts, "templates": templates}, default=list)


def _inert(text: str) -> str:
    """JSON that holds nothing that HTML or JavaScript would read."""
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _resource(name: str) -> str:
    return (files("analysis.report") / name).read_text(encoding="utf-8")
