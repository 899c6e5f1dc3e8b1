"""The command line. Heavy imports happen inside the commands, so that ``nas --help`` is quick.

Exit codes: 0 done, 1 nothing that works, or no row to show, 2 bad input (one clear sentence), 130 interrupted.
"""

from __future__ import annotations

import sys
from enum import StrEnum
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas import cli_cluster, cli_dashboard, cli_exports, cli_reading, cli_report, cli_search, cli_tables, completion
from nas.cli_command import Command, Group
from nas.cli_search import RunArgument
from nas.console import console, status

if TYPE_CHECKING:
    from trainers.comparison import Outcome

FORMULAS = {"ignore_unknown_options": True}
"""So that '-x * erfc(x)' is taken for a formula, and not for options."""

app = typer.Typer(
    name="nas",
    cls=Group,
    help="Search for activation functions, read what was found, use it in your own models.",
    epilog="Begin with: nas search digits",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
command = partial(app.command, cls=Command)
command()(cli_search.search)
command()(cli_search.resume)
command("eval", context_settings=FORMULAS)(cli_search.evaluate)
command()(cli_reading.leaderboard)
command()(cli_reading.confirm)
command()(cli_reading.check)
command()(cli_report.report)
command()(cli_dashboard.dashboard)
command()(cli_tables.table)
command()(cli_tables.bench)
command()(cli_exports.zoo)
command()(cli_exports.optuna)
command()(cli_cluster.submit)
command("status")(cli_cluster.list_jobs)
command()(cli_cluster.stop)
command()(cli_cluster.doctor)


class Equivalence(StrEnum):
    """Mirrors search_spaces.equivalence.LEVELS, which costs an import of torch."""

    EXACT = "exact"
    REFLECTION = "reflection"
    AFFINE = "affine"


def _version(wanted: bool) -> None:
    if wanted:
        from nas import __version__

        typer.echo(f"nas {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    pass


@command()
def space(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="A preset such as three_node, or a YAML file.", autocompletion=completion.spaces
        ),
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Options of the space, such as units=2.")
    ] = None,
    equivalence: Annotated[Equivalence, typer.Option(help="What counts as the same function.")] = Equivalence.EXACT,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    enumerate: Annotated[
        Path | None, typer.Option("--enumerate", metavar="FILE", help="Write every function, one a line.")
    ] = None,
    trainable: Annotated[
        bool, typer.Option("--trainable", help="Write only functions that are finite and not affine.")
    ] = False,
) -> None:
    """Print what a search space is made of and how many different functions it holds."""
    from nas import spaces

    if trainable and enumerate is None:
        raise typer.BadParameter("it chooses what --enumerate FILE writes; give both.", param_hint="--trainable")
    options, chosen = spaces.load_space(name, overrides or [])
    terminal = console()
    with status(f"counting the functions of {name}: {chosen.size:,} spellings"):
        census = spaces.count(chosen, equivalence.value)
        written = None if enumerate is None else spaces.write_functions(chosen, census, enumerate, trainable)
    if json:
        typer.echo(spaces.as_json(options, chosen, census, equivalence.value))
    else:
        terminal.print(spaces.as_table(options, chosen, census, equivalence.value))
    if written is not None:
        typer.echo(f"{written:,} functions written to {enumerate}", err=True)


@command(context_settings=FORMULAS)
def show(
    function: Annotated[
        str,
        typer.Argument(
            metavar="FUNCTION",
            help="A formula such as 'x * sigmoid(x)', a name, RUN:best or RUN:RANK.",
            autocompletion=completion.functions,
        ),
    ],
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="Draw f and f' beside ReLU and SiLU; .png, .svg, .pdf."),
    ] = None,
) -> None:
    """Print a function's derivative, properties, nearest known functions and cost."""
    from nas import show as view

    expression = view.find_expression(function)
    if plot is not None:
        view.plot(expression, plot)
    with status("asking sympy"):
        described = view.describe(expression)
    console().print(described)


@command()
def compare(
    config: Annotated[
        str,
        typer.Argument(
            metavar="CONFIG",
            help="A YAML file, or a shipped name such as passkey.",
            autocompletion=completion.comparisons,
        ),
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Such as steps=100 model.dim=32.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Train small models of text that differ in their parts, and print how they compare."""
    from nas import comparison_table as view
    from nas.comparison import load_comparison
    from nas.comparison_run import run_comparison
    from trainers.environment import environment
    from trainers.run import pick_device

    experiment = load_comparison(config, overrides)
    total = experiment.seeds * len(experiment.variants)
    typer.echo(f"{total} trainings, {min(total, experiment.workers)} at a time; a line for each when it ends", err=True)
    ended = count(1)

    def done(name: str, seed: int, outcome: Outcome) -> None:
        line = f"[{next(ended)}/{total} trained] {name}, seed {seed}: {view.outcome_line(experiment, outcome)}"
        typer.echo(line, err=True)

    try:
        results = run_comparison(experiment, done)
    except KeyboardInterrupt:
        typer.echo("Interrupted; a comparison cannot be resumed.", err=True)
        raise typer.Exit(130) from None
    about = environment(pick_device("auto"), "fp32", "")
    if json:
        typer.echo(view.comparison_json(experiment, results, about))
    else:
        terminal = console()
        terminal.print(view.comparison_table(experiment, results))
        terminal.print(view.comparison_note(experiment, about), style="dim", markup=False)
    if all(outcome.reason for outcomes in results.values() for outcome in outcomes):
        raise typer.Exit(1)


@command()
def export(
    run: RunArgument,
    top: Annotated[int, typer.Option("--top", "-n", min=1, help="How many of the best functions found.")] = 1,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where to write them.")] = Path("exports"),
    onnx: Annotated[bool, typer.Option("--onnx", help="As ONNX files, too.")] = False,
) -> None:
    """Write the best functions found as Python files that need torch only."""
    from nas.export import export_top

    for path in export_top(run, top, out):
        typer.echo(str(path))
        if onnx:
            from nas.onnx_export import export_function

            typer.echo(str(export_function(path)))


def main() -> None:
    """The entry point: what the user got wrong is one sentence on stderr and exit code 2, never a traceback."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except ValueError as error:
        if not _is_ours(error):
            raise
        for line in str(error).splitlines():
            typer.echo(f"error: {line}", err=True)
        sys.exit(2)


def _is_ours(error: ValueError) -> bool:
    """Whether an error is one of the project's own, which are written for users."""
    return type(error).__module__.split(".")[0] in ("nas", "analysis", "trainers", "search_spaces")
