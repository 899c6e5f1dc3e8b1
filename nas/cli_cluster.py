"""The commands for clusters: ``nas submit``, ``nas status``, ``nas stop``, and ``nas doctor``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from nas import completion
from nas.cli_search import Address, ConfigArgument, CpusPerTrial, GpusPerTrial, MaxConcurrent, as_overrides
from nas.console import console, status

if TYPE_CHECKING:
    from nas.cluster.jobs import Jobs
    from nas.config import ExperimentConfig

JobServer = Annotated[
    str,
    typer.Option(
        "--address", metavar="URL", envvar="RAY_API_SERVER_ADDRESS", help="The dashboard of the cluster's head."
    ),
]
_DEFAULT = "http://127.0.0.1:8265"


def submit(
    config: ConfigArgument,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="As for nas search; paths are the cluster's.")
    ] = None,
    run: Annotated[
        str | None, typer.Option("--run", metavar="DIR", help="The study's directory, absolute, on the cluster's head.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run: CONFIG is its directory on the cluster's head.")
    ] = False,
    address: JobServer = _DEFAULT,
    gpus_per_trial: GpusPerTrial = None,
    cpus_per_trial: CpusPerTrial = None,
    max_concurrent: MaxConcurrent = None,
) -> None:
    """Hand a search over to a Ray cluster, and leave it to it."""
    from nas.submission import submit as hand_over

    changes = [*(overrides or []), *as_overrides(None, gpus_per_trial, cpus_per_trial, max_concurrent)]
    with status(f"asking {address}"):
        jobs = _jobs(address)
        job, where = hand_over(jobs, config, changes, run, resume)
    at = "" if address == _DEFAULT else f" --address {address}"
    typer.echo(f"{job}: {where}\n\nHow it does:  nas status {job}{at}\nTo stop it:   nas stop {job}{at}")


def list_jobs(
    job: Annotated[str | None, typer.Argument(metavar="JOB", help="As nas submit printed it; none for all.")] = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="So many of the last lines that it printed.")] = 15,
    address: JobServer = _DEFAULT,
) -> None:
    """How the searches on a cluster do."""
    from nas.submission import jobs_table, spent

    jobs = _jobs(address)
    if job is None:
        console().print(jobs_table(jobs.list()))
        return
    found = jobs.get(job)
    typer.echo(f"{found.id}: {found.state}, {spent(found)}, {found.run}")
    typer.echo(jobs.log(job, lines))


def stop(
    job: Annotated[str, typer.Argument(metavar="JOB", help="As nas submit printed it.")],
    address: JobServer = _DEFAULT,
) -> None:
    """Stop a search on a cluster as Ctrl-C would: what has finished is kept."""
    with status("waiting for its end"):
        found = _jobs(address).stop(job)
    typer.echo(f"{found.id}: {found.state}. To go on: nas submit --resume {found.run}")


def doctor(
    config: Annotated[
        str | None,
        typer.Argument(
            metavar="CONFIG",
            help="Rehearse this one: its data and its model.",
            autocompletion=completion.experiments,
        ),
    ] = None,
    overrides: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="As for nas search.")] = None,
    address: Address = None,
) -> None:
    """Look for what usually goes wrong: on this machine, and, given CONFIG or an address, where trials would run."""
    from nas.this_machine import as_table, look_around

    rehearses = config is not None or address is not None
    experiment = None
    if config is not None:  # says what is wrong with it before all the rest
        from nas.config import load_config

        experiment = load_config(config, [*(overrides or []), *as_overrides(address, None, None, None)])
    with status("looking around"):
        here = look_around(hints=not rehearses)
    console().print(as_table(here))
    found = [fault for finding in here for fault in finding.faults]
    if rehearses:
        found += _examine(experiment, address)
    for fault in found:
        typer.echo(f"error: {fault}", err=True)
    if found:
        raise typer.Exit(1)
    tried = "" if config is None else f"Ray's workers could load the data of {config} and build its model. "
    typer.echo(f"\n{tried}Nothing is in the way of a run.")


def _examine(experiment: ExperimentConfig | None, address: str | None) -> list[str]:
    from nas.doctor import examination, machines_table

    with status("asking the machines"):
        machines, found = examination(experiment, address)
    typer.echo()
    console().print(machines_table(machines))
    return found


def _jobs(address: str) -> Jobs:
    from nas.submission import job_server

    return job_server(address)
