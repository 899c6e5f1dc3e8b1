"""Commands that read studies: ``nas leaderboard``, ``nas confirm``, ``nas check``."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas import completion
from nas.cli_search import Address, CpusPerTrial, GpusPerTrial, MaxConcurrent, RunArgument, as_overrides
from nas.console import console, status

if TYPE_CHECKING:
    import pandas as pd

    from analysis.filters import Wanted
    from analysis.study import Study

_WHICH = "Which functions"


class Format(StrEnum):
    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    MD = "md"


class Sort(StrEnum):
    """Mirrors analysis.leaderboard.SORT_KEYS, which costs an import of pandas."""

    RANK = "rank"
    VAL_ACCURACY = "val_accuracy"
    VAL_LOSS = "val_loss"
    VAL_BPB = "val_bpb"
    TEST_ACCURACY = "test_accuracy"
    TEST_LOSS = "test_loss"
    TEST_BPB = "test_bpb"
    VS_RELU = "vs_relu"
    VS_SILU = "vs_silu"
    P_BEST = "p_best"
    SECONDS = "seconds"
    COMPLEXITY = "complexity"
    COST = "cost"
    PARAMETERS = "parameters"
    FORMULA = "formula"


class Pareto(StrEnum):
    """Mirrors analysis.filters.Wanted.pareto."""

    COMPLEXITY = "complexity"
    COST = "cost"
    SECONDS = "seconds"


def leaderboard(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN", help="Studies' directories.", autocompletion=completion.runs),
    ],
    format: Annotated[Format, typer.Option("--format", "-f", help="How to print it.")] = Format.TABLE,
    sort: Annotated[
        Sort, typer.Option("--sort", "-s", metavar="KEY", help=f"Order of the rows: {', '.join(Sort)}.")
    ] = Sort.RANK,
    top: Annotated[int, typer.Option("--top", "-n", min=1, help="How many rows.")] = 20,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write all rows; .csv, .json or .parquet.")
    ] = None,
    trials: Annotated[bool, typer.Option("--trials", help="With --out: a row a trial, not a function.")] = False,
    family: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="swish, relu, known, or a text in the formula.", rich_help_panel=_WHICH),
    ] = None,
    max_complexity: Annotated[
        int | None, typer.Option(min=1, help="Of at most so many nodes.", rich_help_panel=_WHICH)
    ] = None,
    max_cost: Annotated[
        float | None,
        typer.Option(min=0, help="That take at most so many times as long as ReLU.", rich_help_panel=_WHICH),
    ] = None,
    pareto: Annotated[
        Pareto | None, typer.Option(help="None is both better and smaller in this.", rich_help_panel=_WHICH)
    ] = None,
    confirmed: Annotated[
        bool, typer.Option("--confirmed", help="Only confirmed ones.", rich_help_panel=_WHICH)
    ] = False,
    setting: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="As confirmed elsewhere, by nas confirm --also.", rich_help_panel=_WHICH),
    ] = None,
) -> None:
    """Print the functions of a study, or of several, best first; also while they run."""
    from contextlib import ExitStack

    from analysis.filters import Wanted
    from analysis.study import Study, together, write_frame
    from nas import tables

    wanted = Wanted(family, max_complexity, max_cost, pareto.value if pareto else None, confirmed)
    with ExitStack() as stack:
        studies = [stack.enter_context(Study(run)) for run in runs]
        rows = together(studies, wanted, sort.value, setting)
        if out is not None:
            written = write_frame([study.trials.assign(run=study.name) for study in studies] if trials else [rows], out)
            typer.echo(f"{written:,} rows written to {out}", err=True)
            return
        if trials:
            raise typer.BadParameter("a table of trials is for a file; give --out FILE too.", param_hint="--trials")
        rows = rows.head(top)
        if rows.empty and format is Format.TABLE:
            typer.echo(wanted.none(together(studies, Wanted(), sort.value, setting)), err=True)
            if wanted != Wanted():
                raise typer.Exit(1)
        elif format is Format.TABLE:
            tables.print_leaderboard(console(), _as_they_stand(rows, studies), extra=wanted.columns)
            if len(studies) == 1 and setting is None:
                _print_settings(studies[0], wanted, top)
        else:
            typer.echo(getattr(tables, f"leaderboard_{format.value}")(rows).rstrip())


def _as_they_stand(rows: pd.DataFrame, studies: Sequence[Study]) -> pd.DataFrame:
    """A training that has not ended was interrupted, if nobody is at work on its study."""
    from nas.activity import is_running
    from nas.tables import INTERRUPTED

    for study in studies:
        if not is_running(study.path):
            of_it = rows["run"] == study.name if "run" in rows else True
            rows = rows.assign(state=rows["state"].mask(of_it & (rows["state"] == "RUNNING"), INTERRUPTED))
    return rows


def _print_settings(study: Study, wanted: Wanted, top: int) -> None:
    """How the same functions did elsewhere."""
    from nas import tables

    for name in study.settings:
        rows = wanted.of(study.leaderboard(setting=name)).head(top)
        if len(rows):
            about = f"\n{name} (vs ReLU: {tables.unit_of(rows['metric'].iloc[0]).rstrip(',')})"
            console().print(about, style="bold", markup=False)
            tables.print_leaderboard(console(), _as_they_stand(rows, [study]), note=False, extra=wanted.columns)


def confirm(
    run: RunArgument,
    top: Annotated[int, typer.Option("--top", "-n", min=1, help="How many of the best functions found.")] = 10,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each function, in each setting.")] = 5,
    also: Annotated[
        list[str] | None,
        typer.Option(
            metavar="'CONFIG [KEY=VALUE]...'",
            help="Another model and data set: a configuration; several with commas, or given repeatedly.",
            autocompletion=completion.experiments,
        ),
    ] = None,
    address: Address = None,
    gpus_per_trial: GpusPerTrial = None,
    cpus_per_trial: CpusPerTrial = None,
    max_concurrent: MaxConcurrent = None,
) -> None:
    """Train the best functions and the baselines anew, on the whole training set, and score them on the test set.

    Given again, it goes on: nothing that was finished is trained again, and more --seeds or --also add to it.
    """
    from analysis.filters import Wanted
    from analysis.study import Study
    from nas import tables
    from nas.config import elsewhere
    from nas.confirm import find_settings
    from nas.execution import confirm as execute
    from nas.progress import ConfirmView
    from nas.runs import open_run, settle_precision

    where = as_overrides(address, gpus_per_trial, cpus_per_trial, max_concurrent)
    terminal = console()
    with open_run(run, lambda config: elsewhere(config, where) if where else config) as opened:
        settings = find_settings(opened.config, also or [])
        with status("measuring which precision is faster here"):
            settle_precision(opened)
        done = execute(opened, settings, top, seeds, lambda job: ConfirmView(job, terminal, str(run)))
    if not done.done:
        terminal.print("Interrupted. To go on, give the same command again.")
        raise typer.Exit(130)
    with Study(run) as study:
        wanted = Wanted(confirmed=True)
        tables.print_leaderboard(terminal, wanted.of(study.leaderboard()))
        _print_settings(study, wanted, 1000)
        terminal.print()
        for name in (None, *study.settings):
            terminal.print(_verdict(wanted.of(study.leaderboard(setting=name)), name), markup=False)
    terminal.print(f"All of it, with figures: nas report {run}", markup=False, soft_wrap=True)
    terminal.print(f"As files for your own models: nas export {run}", markup=False, soft_wrap=True)


def _verdict(rows: pd.DataFrame, setting: str | None) -> str:
    """Which functions were shown to be better than ReLU."""
    from analysis.comparisons import outcome

    better = [row["formula"] for _, row in rows.iterrows() if outcome(row, "vs_relu") == "better"]
    where = "" if setting is None else f" in {setting}"
    return f"Better than ReLU{where}, beyond chance: {', '.join(better) or 'no function'}."


def check(
    run: RunArgument,
    recover: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write what can be read of a damaged one to a new directory.")
    ] = None,
) -> None:
    """Look whether a study is whole: its file, its rows, and that its strategy can be brought back to where it was."""
    from nas.activity import is_running
    from nas.check import check_run

    if recover is not None:
        from analysis.recovery import recover as rescue

        for line in rescue(run, recover):
            typer.echo(line)
        return
    with status("replaying the study"):
        found, states = check_run(run)
    words = {} if is_running(run) else {"RUNNING": "INTERRUPTED"}
    counts = ", ".join(f"{number} {words.get(state, state)}" for state, number in sorted(states.items())) or "no trials"
    typer.echo(f"{run}: {counts}; {'whole' if not found else f'{len(found)} faults:'}")
    for fault in found:
        typer.echo(f"  {fault}")
    if found:
        raise typer.Exit(1)
