"""Runs a search in this process, one trial after the other: for debugging and for tests."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from nas.search import Search
from nas.strategies import Signal
from trainers.run import run_trial


def run_inline(search: Search, on_change: Callable[[], None]) -> None:
    """Run all trials of a search one by one."""
    while not isinstance(trial := search.next(), Signal):
        if trial is None:
            raise RuntimeError("the strategy waits for a result although none is outstanding")
        on_change()
        search.finish(trial, run_trial(trial, partial(search.report, trial)))
        on_change()
