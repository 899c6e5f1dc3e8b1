"""Running the trials of a search, or of a confirmation, from start to end: here, or where the configuration says."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from nas.cluster.environment import settle
from nas.config import ExperimentConfig
from nas.confirm import Confirmation, Setting, find_entrants
from nas.console import status
from nas.loggers import logging_to
from nas.runs import Run, check_components, settle_precision
from nas.search import Search
from search_spaces.values import one_thread
from trainers.run import load_data

Job = TypeVar("Job", Search, Confirmation)
Watch = Callable[[Job], contextlib.AbstractContextManager[Callable[[], None]]]
"""Makes the view that is called when something changes."""


def execute(run: Run, watch: Watch[Search]) -> Search:
    """Run, or go on with, a study.

    Returns the search; after Ctrl-C its ``done`` is False.
    """
    settle_precision(run)
    with status("bringing the study back to where it was"), one_thread():  # asks are replayed as they were asked
        search = Search(run.config, run.store)
    return _work_through(run, search, [run.config], watch)


def confirm(run: Run, settings: Sequence[Setting], top: int, seeds: int, watch: Watch[Confirmation]) -> Confirmation:
    """Confirm a study's best functions, or go on with that; see nas.confirm.

    Returns the confirmation; after Ctrl-C its ``done`` is False.

    Raises:
        ConfirmError: no function has completed its training.
        RunError: a data set has no test set, or a setting does not work here.
        WorkersError: no cluster answers, or its machines cannot run the trials.
    """
    entrants = find_entrants(run.store, run.config, top)
    configs = [setting.config for setting in settings]
    if run.config.executor == "inline" or run.config.ray.address is None:
        for config in configs:
            check_components(config, "test")
    settle_precision(run)
    precision = run.config.trial.precision
    if precision == "auto":
        precision = run.store.get("precision")
    confirmation = Confirmation(run.store, settings, entrants, seeds, precision)
    return _work_through(run, confirmation, configs, watch, "test")


def _work_through(
    run: Run, job: Job, configs: Sequence[ExperimentConfig], watch: Watch[Job], score_on: str = "val"
) -> Job:
    with logging_to(job, run.path):  # they may have missed the end
        if job.done:
            return job
        with (
            one_thread(),
            _stopped_by(signal.SIGTERM),
            watch(job) as view,
            contextlib.suppress(KeyboardInterrupt),
        ):
            if run.config.executor == "inline":
                from nas.inline import run_inline

                run_inline(job, view)
            else:
                load_data.cache_clear()  # workers have their own
                settle(run.config.ray.address)
                from nas.cluster.run import run_on_ray

                run_on_ray(job, configs, view, score_on)
    return job


@contextlib.contextmanager
def _stopped_by(number: signal.Signals) -> Iterator[None]:
    """A signal that is to be as good as Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(number, before)
