"""Runs a search in this process, one trial after the other: for debugging and for tests."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from nas.cluster.bridge import Work
from nas.strategies import Signal
from trainers.run import run_trial


def run_inline(work: Work, on_change: Callable[[], None]) -> None:
    """Run all trials of a search, or of something like it, one by one."""
    while not isinstance(trial := work.next(), Signal):
        if trial is None:
            raise RuntimeError("the strategy waits for a result although none is outstanding")
        on_change()
        work.finish(trial, run_trial(trial, partial(work.report, trial)))
        on_change()
