"""The command ``nas optuna``: a study for the tools of others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.cli_search import RunArgument
from nas.console import status


def optuna(
    run: RunArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE.db", help="To write; it must not exist.")],
) -> None:
    """Write a study as an Optuna storage, to look at with optuna-dashboard."""
    from nas.optuna_export import export_optuna

    with status("writing"):
        number = export_optuna(run, file)
    typer.echo(f"{number:,} trials: {file}; look at them with: optuna-dashboard sqlite:///{file}")
