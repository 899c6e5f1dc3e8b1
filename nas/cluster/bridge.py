"""Between Ray Tune's trials and ours, and what becomes of a trial whose worker process is lost.

A worker may be lost through no fault of the candidate: its machine went down, or the machine's memory was taken by
something else. So the trial is started again, a few times. A process that its own watch ended, because the training
hung or grew beyond its memory, is the candidate's failure at once.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol

from nas.strategies import Signal
from trainers.trial import Trial, TrialResult, TrialState

_LOST_AT_START = 4  # so many workers lost, and none that ever reported: it is not the candidates
_LOST_IN_A_ROW = 20  # as many later, without a single result between them: a cluster that fell apart


class Work(Protocol):
    """What an executor needs of a search; see nas.search.Search."""

    def next(self) -> Trial | Signal | None: ...
    def report(self, trial: Trial, result: TrialResult) -> bool: ...
    def finish(self, trial: Trial, result: TrialResult) -> None: ...
    def again(self, trial: Trial) -> None: ...


@dataclass
class Bridge:
    """The trials that run, by Tune's ids.

    Attributes:
        work: where trials come from and results go.
        workers: so many trials at a time.
        retries: so often a trial whose worker was lost is started again.
        last_words: why a worker ended itself over a trial, if it did, given when the trial was started (seconds since
            the epoch).
        on_change: called when there is something new to be seen.
    """

    work: Work
    workers: int
    retries: int
    last_words: Callable[[Trial, float], str | None]
    on_change: Callable[[], None]
    running: dict[str, Trial] = field(default_factory=dict)
    broken: str | None = None  # why no worker works
    error: Exception | None = None  # what the search said no to: a store that cannot be written, for one
    _started: dict[str, float] = field(default_factory=dict)
    _last: dict[str, TrialResult] = field(default_factory=dict)
    _stopped: set[str] = field(default_factory=set)
    _losses: Counter[int] = field(default_factory=Counter)  # by trial
    _lost_in_a_row: int = 0
    _reported: bool = False

    @property
    def over(self) -> bool:
        """Whether nothing more is to be started, whatever the search has left."""
        return self.broken is not None or self.error is not None

    @property
    def idle(self) -> bool:
        """Whether no trial runs."""
        return not self.running

    def suggest(self, tune_id: str) -> Trial | Signal | None:
        """A trial for a worker; None to ask again later, a signal if there is nothing left to start."""
        trial = None
        if not self.over and len(self.running) < self.workers:
            with self._kept():
                trial = self.work.next()
        if isinstance(trial, Trial):
            self.running[tune_id] = trial
            self._started[tune_id] = time.time()
            self.on_change()
        return trial

    def take(self, tune_id: str, result: TrialResult) -> bool:
        """A report; answers whether the trial stops here."""
        self._last[tune_id] = result
        self._reported, self._lost_in_a_row = True, 0
        if result.state != TrialState.RUNNING:
            return True
        with self._kept():
            if self.work.report(self.running[tune_id], result):
                self._stopped.add(tune_id)
                return True
        return self.over

    def complete(self, tune_id: str, error: str | None) -> None:
        """A trial of Tune's has ended, one way or another."""
        if self.error is not None:  # what ends now was ended with the run
            return
        trial, started = self.running.pop(tune_id, None), self._started.pop(tune_id, 0.0)
        last = self._last.pop(tune_id, TrialResult(TrialState.RUNNING))
        if trial is None:
            return
        if tune_id in self._stopped:
            self._stopped.discard(tune_id)
            last = replace(last, state=TrialState.PRUNED)
        elif last.state == TrialState.RUNNING:
            reason = self.last_words(trial, started)
            reason = reason or self._lost(trial, error or "its process ended before the training did")
            if reason is None:
                return
            last = replace(last, state=TrialState.FAIL, reason=reason)
        with self._kept():
            self.work.finish(trial, last)
        self.on_change()

    @contextlib.contextmanager
    def _kept(self) -> Iterator[None]:
        """Tune would take an exception here for the trial's; kept, it ends the run."""
        try:
            yield
        except Exception as error:
            self.error = error

    def _lost(self, trial: Trial, error: str) -> str | None:
        """Why the trial has failed; None if it is started again, by this run or by one that resumes it."""
        self._losses[trial.id] += 1
        self._lost_in_a_row += 1
        if self._lost_in_a_row >= (_LOST_IN_A_ROW if self._reported else _LOST_AT_START):
            self.broken = error
        if self.broken or self._losses[trial.id] <= self.retries:
            self.work.again(trial)
            return None
        return f"its worker was lost {self._losses[trial.id]} times: {error}"
