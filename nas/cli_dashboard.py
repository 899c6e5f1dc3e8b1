"""The command ``nas dashboard``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas import completion


class MissingDash(ValueError):
    """The optional extra is not installed."""


def dashboard(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RUN",
            help="Studies' directories, or ones that hold studies; ./runs by default.",
            autocompletion=completion.runs,
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of this machine; 0 for any free one.")] = 8050,
    open: Annotated[bool, typer.Option("--open/--no-open", help="Show it in a browser.")] = True,
) -> None:
    """Show studies in a browser, also while they run; on this machine only."""
    try:
        from nas.dashboard.serve import serve
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in ("dash", "flask", "plotly", "werkzeug"):
            raise
        raise MissingDash("the dashboard needs Dash; install it with: pip install 'dash>=4.4'") from error
    serve(runs or [Path("runs")], port, open, lambda line: typer.echo(line, err=True))
