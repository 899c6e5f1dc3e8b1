"""The command ``nas report``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from nas.cli_search import RunArgument
from nas.console import status


class ReportFormat(StrEnum):
    HTML = "html"
    MD = "md"


class FigureFormat(StrEnum):
    """Mirrors analysis.figures.paper.FORMATS, which costs an import of pandas."""

    PNG = "png"
    SVG = "svg"
    PDF = "pdf"


def report(
    run: RunArgument,
    format: Annotated[
        ReportFormat, typer.Option("--format", "-f", help="One HTML file, or a folder of Markdown and figures.")
    ] = ReportFormat.HTML,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="PATH", help="Where to. [dim]\\[RUN/report.html, or RUN/report][/dim]"),
    ] = None,
    figures: Annotated[
        Path | None, typer.Option("--figures", metavar="DIR", help="Write the figures alone, for a paper.")
    ] = None,
    figure_format: Annotated[
        FigureFormat, typer.Option("--figure-format", help="Of the figures for a paper.")
    ] = FigureFormat.PNG,
) -> None:
    """Write what a study says, and what it does not: verdict, figures, tables, configuration. Works offline."""
    from analysis.study import Study

    with Study(run) as study, status("drawing"):
        if figures is not None:
            from analysis.figures.paper import write_figures
            from analysis.leaders import leaders

            written = list(write_figures(study, leaders(study), figures, figure_format.value).values())
        elif format is ReportFormat.MD:
            from analysis.report.markdown import write_markdown

            written = [write_markdown(study, out or run / "report", figure_format.value)]
        else:
            from analysis.report.html import write_html

            target = out or run / "report.html"
            write_html(study, target)
            written = [target]
    for path in written:
        typer.echo(str(path))
    if not written:
        typer.echo("there is nothing to draw yet", err=True)
