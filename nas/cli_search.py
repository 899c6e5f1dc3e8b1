"""The commands ``nas search`` and ``nas resume``, and where they run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas import completion
from nas.console import console, status

if TYPE_CHECKING:
    from rich.console import Console

    from nas.runs import Run
    from nas.search import Search

RunArgument = Annotated[
    Path, typer.Argument(metavar="RUN", help="A study's directory.", autocompletion=completion.runs)
]
ConfigArgument = Annotated[
    str,
    typer.Argument(
        metavar="CONFIG",
        help="A YAML file, or a shipped name such as digits.",
        autocompletion=completion.experiments,
    ),
]
_WHERE = "Where it runs"
Address = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="A Ray cluster: auto, HOST:PORT or ray://HOST:PORT. [dim]\\[none: this machine][/dim]",
        rich_help_panel=_WHERE,
    ),
]
GpusPerTrial = Annotated[
    float | None,
    typer.Option(min=0, help="Such as 0.25. [dim]\\[as many trials as fit its memory][/dim]", rich_help_panel=_WHERE),
]
CpusPerTrial = Annotated[float | None, typer.Option(min=0.01, help="[dim]\\[1][/dim]", rich_help_panel=_WHERE)]
MaxConcurrent = Annotated[
    int | None, typer.Option(min=1, help="Trials at a time. [dim]\\[as many as fit][/dim]", rich_help_panel=_WHERE)
]


def search(
    config: ConfigArgument,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Such as search.trials=50 model.width=16.")
    ] = None,
    run: Annotated[
        Path | None, typer.Option("--run", metavar="DIR", help="The study's directory. [dim]\\[runs/NAME-DATE][/dim]")
    ] = None,
    address: Address = None,
    gpus_per_trial: GpusPerTrial = None,
    cpus_per_trial: CpusPerTrial = None,
    max_concurrent: MaxConcurrent = None,
) -> None:
    """Start a search, print its leaderboard and export its winner."""
    from nas.config import load_config
    from nas.runs import create_run, default_run_path

    where = as_overrides(address, gpus_per_trial, cpus_per_trial, max_concurrent)
    with status("looking at the space"):
        experiment = load_config(config, [*(overrides or []), *where])
    with create_run(experiment, run or default_run_path(experiment)) as created:
        _execute(created)


def resume(
    run: RunArgument,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Such as workers=2 ray.hang_seconds=60.")
    ] = None,
    address: Address = None,
    gpus_per_trial: GpusPerTrial = None,
    cpus_per_trial: CpusPerTrial = None,
    max_concurrent: MaxConcurrent = None,
) -> None:
    """Go on with a search that was interrupted. Nothing that was finished is trained again."""
    from nas.config import elsewhere
    from nas.runs import open_run

    where = [*(overrides or []), *as_overrides(address, gpus_per_trial, cpus_per_trial, max_concurrent)]
    with open_run(run, lambda config: elsewhere(config, where) if where else config) as opened:
        _execute(opened)


def evaluate(
    function: Annotated[
        str,
        typer.Argument(
            metavar="FUNCTION",
            help="A formula such as 'x * erf(x)', a name, RUN:best or RUN:RANK.",
            autocompletion=completion.functions,
        ),
    ],
    config: ConfigArgument,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Such as trial.epochs=20 model.width=16.")
    ] = None,
    more: Annotated[
        list[str] | None,
        typer.Option(
            "--and",
            metavar="FUNCTION",
            help="One more; may be given repeatedly.",
            autocompletion=completion.functions,
        ),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Trainings of each. [dim]\\[the configuration's retrain.seeds][/dim]")
    ] = None,
    baselines: Annotated[
        bool, typer.Option("--baselines/--no-baselines", help="Train those of the configuration beside it.")
    ] = True,
    run: Annotated[
        Path | None, typer.Option("--run", metavar="DIR", help="The study's directory. [dim]\\[runs/NAME-DATE][/dim]")
    ] = None,
    address: Address = None,
    gpus_per_trial: GpusPerTrial = None,
    cpus_per_trial: CpusPerTrial = None,
    max_concurrent: MaxConcurrent = None,
) -> None:
    """Train a function of your own as a search retrains its best ones, and compare it with the baselines."""
    from nas.evaluation import evaluation_config, would_be_screened
    from nas.runs import create_run, default_run_path

    for text in overrides or []:
        if text.startswith("-"):  # formulas may begin so, and typer was told to let them pass
            raise typer.BadParameter(f"no such option: {text}; see nas eval --help")
    where = as_overrides(address, gpus_per_trial, cpus_per_trial, max_concurrent)
    changes = [*(overrides or []), *where]
    experiment = evaluation_config([function, *(more or [])], config, changes, seeds, baselines)
    with create_run(experiment, run or default_run_path(experiment)) as created:
        for warning in would_be_screened(created):
            typer.echo(warning)
        _execute(created)


def as_overrides(
    address: str | None, gpus_per_trial: float | None, cpus_per_trial: float | None, max_concurrent: int | None
) -> list[str]:
    """Options as keys of a configuration."""
    keys = {
        "ray.address": address,
        "ray.gpus_per_trial": gpus_per_trial,
        "ray.cpus_per_trial": cpus_per_trial,
        "workers": max_concurrent,
    }
    return [f"{key}={value}" for key, value in keys.items() if value is not None]


def _execute(run: Run) -> None:
    from nas.evaluation import is_evaluation
    from nas.execution import execute
    from nas.progress import EvaluationView, ProgressView
    from nas.runs import settle_precision

    terminal = console()
    view = EvaluationView if is_evaluation(run.config) else ProgressView
    with status("measuring which precision is faster here"):
        settle_precision(run)
    before = run.store.count_states()
    search = execute(run, lambda search: view(search, terminal, str(run.path)))
    if not search.done:
        terminal.print(f"Interrupted. To go on: nas resume {run.path}", markup=False, soft_wrap=True)
        raise typer.Exit(130)
    if run.store.count_states() == before:
        terminal.print(_finished(run))
    if is_evaluation(run.config):
        _show_evaluation(run, terminal)
    else:
        _show_search(run, search, terminal)


def _finished(run: Run) -> str:
    from nas.search import CONFIRM

    if any(record.result is None and record.trial.stage == CONFIRM for record in run.store.records()):
        return "The search is finished; its confirmation was interrupted: give that nas confirm command again."
    return "This study is finished; nothing was left to do."


def _show_evaluation(run: Run, terminal: Console) -> None:
    from analysis.leaderboard import leaderboard as build
    from nas.tables import print_leaderboard

    rows = build(run.store)
    print_leaderboard(terminal, rows)
    failed = rows[rows["n_failed"] > 0]
    reasons = [record.result.reason for record in run.store.records() if record.result and record.result.reason]
    if len(failed):
        terminal.print(f"Some trainings failed, the first one: {reasons[0]}", markup=False, soft_wrap=True)
    terminal.print(f"\nOn the test set, with fresh seeds: nas confirm {run.path}", markup=False, soft_wrap=True)
    if not (rows["found"] & (rows["state"] == "COMPLETE")).any():
        raise typer.Exit(1)


def _show_search(run: Run, search: Search, terminal: Console) -> None:
    from analysis.comparisons import outcome
    from analysis.leaderboard import leaderboard as build
    from nas.export import export_top
    from nas.tables import print_leaderboard

    for failure in _failed_relaxations(run):
        terminal.print(f"A relaxed network failed: {failure}", markup=False, soft_wrap=True)
    rows = build(run.store)
    top = 20 if run.config.retrain.top == "all" else run.config.retrain.top
    print_leaderboard(terminal, rows.head(top + len(run.config.baselines)))
    if not (rows["found"] & (rows["state"] == "COMPLETE")).any():
        terminal.print("No candidate completed its training, so there is nothing to export; the reasons:")
        for reason, count in rows["reason"].value_counts().head(3).items():
            terminal.print(f"  {count} x {reason}", markup=False)
        raise typer.Exit(1)
    winner = export_top(run.path, 1, run.path / "export")[0]
    asked = search.proposals
    terminal.print(
        f"\n{asked['asked']} candidates were asked for: {asked['duplicates']} known already, "
        f"{asked['filtered']} set aside untrained (affine, or not finite).",
        style="dim",
    )
    shown = (rows.apply(outcome, axis=1, column="vs_relu") == "better").any()
    terminal.print("" if shown else "\nNo function is shown to be better than ReLU yet.")
    terminal.print(f"On the test set, with fresh seeds: nas confirm {run.path}", markup=False, soft_wrap=True)
    terminal.print(f"All of it, with figures: nas report {run.path}", markup=False, soft_wrap=True)
    terminal.print(f"Exported winner: {winner}", markup=False, soft_wrap=True)


def _failed_relaxations(run: Run) -> list[str]:
    """Why; a strategy that learns nothing from one goes on in random order, which should not go unnoticed."""
    from nas.search import RELAX

    results = [record.result for record in run.store.records() if record.trial.stage == RELAX]
    return [str(result.reason) for result in results if result is not None and result.state == "FAIL"]
