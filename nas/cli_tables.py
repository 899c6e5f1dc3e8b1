"""The commands ``nas table`` and ``nas bench``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas import completion
from nas.console import console, progress, status


def table(
    source: Annotated[
        str,
        typer.Argument(
            metavar="CONFIG|RUN",
            help="A configuration, or a study of this command to go on with.",
            autocompletion=completion.experiments_or_runs,
        ),
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Such as data.root=DIR trial.epochs=5.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=2, help="Trainings of every function. [dim]\\[2][/dim]")] = None,
    relaxations: Annotated[
        int | None,
        typer.Option(min=0, help="Relaxed networks to train, for replays of gradient. [dim]\\[0][/dim]"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Where to. [dim]\\[tables/NAME][/dim]")
    ] = None,
) -> None:
    """Train every function of a space with several seeds, and write the results as a table for nas bench."""
    from nas.execution import execute
    from nas.progress import ProgressView
    from nas.runs import settle_precision
    from nas.table import make_table, table_run, write_table

    terminal = console()
    with table_run(source, overrides or [], seeds, relaxations, out) as (run, folder):
        with status("measuring which precision is faster here"):
            settle_precision(run)
        search = execute(run, lambda search: ProgressView(search, terminal, str(run.path)))
        if not search.done:
            where = "" if out is None else f" --out {out}"
            terminal.print(f"Interrupted. To go on: nas table {run.path}{where}", markup=False, soft_wrap=True)
            raise typer.Exit(130)
        with progress("functions described") as step:
            made = make_table(run, search, step)
        write_table(made, folder)
    typer.echo(f"{len(made.functions)} functions with {len(made.seeds)} seeds: {folder}")


def bench(
    folder: Annotated[
        Path,
        typer.Argument(metavar="TABLE", help="A folder that nas table wrote.", autocompletion=completion.tables),
    ],
    strategy: Annotated[
        list[str] | None,
        typer.Option(
            "--strategy",
            "-s",
            metavar="'NAME KEY=VALUE ...'",
            help="One to replay; may be given repeatedly.",
            autocompletion=completion.strategies,
        ),
    ] = None,
    replays: Annotated[int, typer.Option(min=1, help="Searches of every strategy.")] = 100,
    evaluations: Annotated[int, typer.Option(min=1, help="Functions that a search evaluates.")] = 200,
    objective: Annotated[
        str | None, typer.Option(metavar="METRIC", help="What to search for. [dim]\\[the table's][/dim]")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes. [dim]\\[one a core][/dim]")] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Draw the comparison; .png, .svg, .pdf.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, with every replay.")] = False,
) -> None:
    """Replay search strategies against a table, without training anything, and print which one is worth using."""
    from nas import bench_table as view
    from nas.bench import Bench
    from trainers.environment import available_cores

    found = Bench.open(folder, strategy or [], objective, replays, evaluations)
    if plot is not None:
        view.check_plot(plot)
    with progress("replays") as step:
        results, seconds = found.run(workers or available_cores(), step)
    if json:
        typer.echo(view.as_json(results, seconds, found.facts))
    else:
        terminal = console()
        terminal.print(view.comparison_tables(results, seconds))
        terminal.print(view.note(found), style="dim", markup=False)
    if plot is not None:
        view.draw(results, plot)
