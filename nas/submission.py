"""What ``nas submit`` sends, and how jobs are shown."""

from __future__ import annotations

import time
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from rich.table import Table

from nas.cluster.address import check_reachable
from nas.cluster.environment import settle
from nas.config import load_config
from nas.yaml_config import ConfigError, source_of

if TYPE_CHECKING:
    from nas.cluster.jobs import Job, Jobs


class SubmissionError(ValueError):
    """A job that cannot be handed over. The message says what to do."""


def job_server(address: str) -> Jobs:
    """The jobs of a cluster.

    Raises:
        SubmissionError: the address is none, or Ray's part for jobs is not installed.
        AddressError: nothing answers there.
        WorkersError: what answers is no job server, or does not let us in.
    """
    scheme, _, place = address.rstrip("/").partition("://")
    if scheme not in ("http", "https") or ":" not in place:
        raise SubmissionError(f"a job server's address is http://HOST:PORT, usually of port 8265, got {address!r}")
    check_reachable(place)
    settle(address)
    try:
        import aiohttp  # noqa: F401  (what Ray's client lacks without its extra)

        from nas.cluster.jobs import Jobs
    except ImportError as error:
        raise SubmissionError("jobs need a part of Ray that is not installed; pip install 'ray[default]'") from error
    return Jobs(address)


def submit(jobs: Jobs, config: str, overrides: list[str], run: str | None, resume: bool) -> tuple[str, str]:
    """Hand a search over, or the resumption of one; the job's id and the run's directory.

    Raises:
        ConfigError: all that is wrong with the configuration.
        SubmissionError: no directory that outlives the job.
    """
    where = config if resume else run
    if where is None or not PurePosixPath(where).is_absolute():
        raise SubmissionError(
            "a job needs an absolute directory on the cluster's head for its study, which outlives the job: "
            + ("give it in place of CONFIG" if resume else "--run DIR")
            + ("; none was given" if where is None else f"; got {where!r}")
        )
    if resume:
        return jobs.submit_resumption(overrides, where), where
    experiment = load_config(config, overrides)
    if experiment.executor != "ray":
        raise ConfigError(config, [f"executor: a job runs on Ray, got {experiment.executor!r}; leave it out"])
    return jobs.submit(experiment.name, source_of(config).read_text(encoding="utf-8"), overrides, where), where


def jobs_table(jobs: list[Job]) -> Table:
    """A row each."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("job", "state", "started", "for", "run"):
        table.add_column(name, overflow="fold")
    for job in jobs:
        started = "" if job.started is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(job.started))
        table.add_row(job.id, job.state, started, spent(job), job.run)
    if not jobs:
        table.add_row("none yet")
    return table


def spent(job: Job) -> str:
    """How long it has run, as h:mm:ss."""
    if job.started is None:
        return "not started"
    seconds = int((job.ended or time.time()) - job.started)
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
