"""Hands a search over to a cluster by Ray Jobs, so that the machine it was given from can be closed.

The search then runs on the cluster's head, with its store there; our packages and the configuration travel with the
job. Needs ``ray[default]``, which the extra ``cluster`` brings.
"""

from __future__ import annotations

import contextlib
import logging
import re
import shlex
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from nas.cluster.session import WorkersError, runtime_environment

_STOP_SECONDS = 60
_YOUNG_SECONDS = 45
_OURS = "nas"  # in a job's metadata: where its run is


@dataclass(frozen=True)
class Job:
    """A search on a cluster.

    Attributes:
        id: of the submission.
        state: PENDING, RUNNING, STOPPED, SUCCEEDED or FAILED.
        run: its directory on the cluster's head.
        started: seconds since the epoch; None if it has not.
        ended: likewise.
    """

    id: str
    state: str
    run: str
    started: float | None
    ended: float | None


class Jobs:
    """The searches on a cluster whose job server answers at ``address``, http://HOST:8265."""

    def __init__(self, address: str) -> None:
        for name in ("ray.dashboard.modules.dashboard_sdk", "ray._private.runtime_env.packaging"):
            logging.getLogger(name).setLevel(logging.ERROR)
        with _clear_errors(address):
            self._client = JobSubmissionClient(address)
        self.address = address

    def submit(self, name: str, config: str, overrides: list[str], run: str) -> str:
        """Start a search; its id.

        Args:
            name: of the configuration.
            config: the text of its YAML.
            overrides: ``key=value`` each.
            run: the study's directory, to be made on the cluster's head.
        """
        file = f"{name}.yaml"
        with tempfile.TemporaryDirectory(prefix="nas-submit-") as folder:
            (Path(folder) / file).write_text(config, encoding="utf-8")
            return self._start(["search", f"./{file}", *overrides, "--run", run], run, folder)

    def submit_resumption(self, overrides: list[str], run: str) -> str:
        """Go on with a run whose directory is on the cluster's head; the job's id."""
        with tempfile.TemporaryDirectory(prefix="nas-submit-") as folder:
            return self._start(["resume", run, *overrides], run, folder)

    def _start(self, arguments: list[str], run: str, folder: str) -> str:
        environment = runtime_environment()
        variables = environment["env_vars"] | {"RAY_JOB_STOP_WAIT_TIME_S": str(_STOP_SECONDS)}
        options = {
            "entrypoint": shlex.join(["python", "-m", "nas", *arguments, "--address", "auto"]),
            "runtime_env": environment | {"working_dir": folder, "env_vars": variables},
            "metadata": {_OURS: run},
        }
        deadline = time.monotonic() + _YOUNG_SECONDS
        with _clear_errors(self.address):
            while True:
                try:
                    return str(self._client.submit_job(**options))
                except RuntimeError as error:  # a cluster that has just been started
                    if "No available agent" not in str(error) or time.monotonic() > deadline:
                        raise
                time.sleep(1)

    def list(self) -> list[Job]:
        """All searches that the cluster remembers, the latest first."""
        with _clear_errors(self.address):
            found = [_job(details) for details in self._client.list_jobs() if _OURS in (details.metadata or {})]
        return sorted(found, key=lambda job: job.started or time.time(), reverse=True)

    def get(self, job: str) -> Job:
        """One of them.

        Raises:
            WorkersError: there is none of this id.
        """
        with _clear_errors(self.address):
            return _job(self._client.get_job_info(job))

    def log(self, job: str, lines: int) -> str:
        """The last lines that it has printed."""
        with _clear_errors(self.address):
            return "\n".join(self._client.get_job_logs(job).splitlines()[-lines:])

    def stop(self, job: str) -> Job:
        """Stop one as Ctrl-C would, and wait until it has ended."""
        with _clear_errors(self.address):
            self._client.stop_job(job)
        deadline = time.monotonic() + _STOP_SECONDS
        while not JobStatus(self.get(job).state).is_terminal() and time.monotonic() < deadline:
            time.sleep(0.5)
        return self.get(job)


def _job(details: JobDetails) -> Job:
    def seconds(milliseconds: int | None) -> float | None:
        return None if milliseconds is None else milliseconds / 1000

    return Job(
        id=str(details.submission_id),
        state=details.status.value,
        run=(details.metadata or {}).get(_OURS, ""),
        started=seconds(details.start_time),
        ended=seconds(details.end_time),
    )


@contextlib.contextmanager
def _clear_errors(address: str) -> Iterator[Any]:
    try:
        yield
    except (ConnectionError, RuntimeError, ValueError) as error:
        lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        if missing := re.search(r"Job (\S+) does not exist", str(error)):
            raise WorkersError(f"{address} knows no job {missing[1]!r}; nas status lists those it knows") from error
        raise WorkersError(
            f"the job server at {address} refuses ({lines[-1].strip()[:300]}); is this the address of the cluster's "
            "dashboard, was Ray started with --include-dashboard=true, and is RAY_AUTH_TOKEN set, if it wants one?"
        ) from error
