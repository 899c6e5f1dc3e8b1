"""The commands ``nas zoo``, and ``nas optuna``: a study for the tools of others."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import Annotated

import typer

from nas import completion
from nas.cli_search import RunArgument
from nas.console import console, status


def optuna(
    run: RunArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE.db", help="To write; it must not exist.")],
) -> None:
    """Write a study as an Optuna storage, to look at with optuna-dashboard."""
    from nas.optuna_export import export_optuna

    with status("writing"):
        number = export_optuna(run, file)
    typer.echo(f"{number:,} trials: {file}; look at them with: optuna-dashboard sqlite:///{file}")


def zoo(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="One of them: its card.", autocompletion=completion.zoo),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="With NAME: copy its module and card there.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the cards as JSON.")] = False,
) -> None:
    """List the activation functions that come with nas, or show one."""
    from nas import zoo as view

    if out is not None and name is None:
        raise typer.BadParameter("it copies one function; give its NAME.", param_hint="--out")
    chosen = None if name is None else view.find(name)
    if json:
        typer.echo(dumps(list(view.cards().values()) if chosen is None else chosen, indent=2))
    elif out is None:
        console().print(view.as_table(console().width) if chosen is None else view.as_card(chosen))
        if chosen is None:
            console().print(f"\n{view.note()}", style="dim", soft_wrap=False, markup=False)
    if out is not None and chosen is not None:
        typer.echo(str(view.copy_to(chosen, out)), err=json)
