"""A search: from a configuration and a store to the trials that executors run.

Two stages. ``search``: the strategy's candidates, one seed each, pruned by successive halving. ``retrain``: the best of
them and the baselines with fresh seeds at the full budget, so that the leaderboard does not repeat the luck by which a
candidate was picked. An executor calls :meth:`Search.next`, :meth:`Search.report` and :meth:`Search.finish` and knows
nothing else.
"""

from __future__ import annotations

import heapq
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from analysis.properties import is_swish_like
from analysis.store import Record, Store
from nas.config import ExperimentConfig
from nas.finalists import Finalist, ranked
from nas.proposer import Proposal, Proposer
from nas.pruning import SuccessiveHalving
from nas.strategies import EXHAUSTED, Candidate, Signal
from nas.warm_start import Known, warm_start
from search_spaces.canonical import simplify
from search_spaces.equivalence import EquivalenceIndex
from search_spaces.expression import Expression, number_params
from search_spaces.known import as_expression, known_expression, recognize
from search_spaces.parser import parse
from search_spaces.recognition import likeness
from trainers.trial import Relaxation, Trial, TrialResult, TrialState

SEARCH, RETRAIN, RELAX = "search", "retrain", "relax"
CONFIRM = "confirm"  # not a search's business; see nas.confirm
_LIKENED = 30  # of the best so far it is said what known function they are like
_RELAXED_EPOCHS = 5  # times a function's: a relaxation trains many


@dataclass(frozen=True)
class Best:
    """The best finished candidate of the search stage."""

    value: float
    record: Record


@lru_cache(maxsize=10_000)
def described(expression: Expression) -> tuple[str, str | None, str | None]:
    """A function's formula for people, its name if it has one, and what it is like; takes up to 120 ms."""
    found: object = likeness(expression) or ("Swish family" if is_swish_like(expression) else None)
    return *named(expression), None if found is None else str(found)


def named(expression: Expression) -> tuple[str, str | None]:
    """A function's formula for people, and its name if it has one."""
    return str(number_params(simplify(expression))), recognize(expression)


class Search:
    """The state of a run. A store that already has trials is replayed first: nothing finished is trained again."""

    def __init__(self, config: ExperimentConfig, store: Store) -> None:
        self.config = config
        self.store = store
        self.objective = config.objective()
        self.precision = store.get("precision", "fp32") if config.trial.precision == "auto" else config.trial.precision
        self.proposer = Proposer(config.make_strategy(self.spectrum), EquivalenceIndex(config.search.equivalence))
        self.pruning = None
        if config.pruning:
            p = config.pruning
            self.pruning = SuccessiveHalving(p.metric, p.rungs, p.reduction_factor)
        self.counts: Counter[tuple[str, TrialState]] = Counter()
        self.best: Best | None = None
        self._best_values: list[float] = []  # descending
        self.exhausted = False
        self._started = time.monotonic()
        self._spent: float = store.get("search_seconds", 0.0)
        self.listeners: list[Callable[[Record], None]] = []  # told of every trial whose result was stored
        self.strangers: list[int] = []  # trials that the strategy, asked again, does not propose
        self._records: dict[int, Record] = {}
        self._interrupted: deque[Record] = deque()
        self._done: set[tuple[str, int]] = set()  # (function key, seed) of the retrain stage, launched or finished
        self._queue: deque[tuple[Expression, str, int]] | None = None
        self._told: list[Known] = []
        given = [as_expression(text) for text in config.retrain.functions]
        self._start_warm(given)
        baselines = self._retrainings([*given, *(known_expression(name) for name in config.baselines)])
        self._replay()
        self._baselines = deque(entry for entry in baselines if entry[1:] not in self._done)
        if self.search_over:
            self._choose_finalists()  # now, so that a study of which nothing is left is done

    # --- what executors call ---------------------------------------------------------------------------------------

    def next(self) -> Trial | Signal | None:
        """A trial to run now; None when it depends on a running one; EXHAUSTED when all is done."""
        if self._interrupted:
            record = self._interrupted.popleft()
            self.store.launch(record)
            return record.trial
        if not self.search_over:
            proposal = self.proposer.propose()
            if isinstance(proposal, Proposal):
                return self._launch_proposal(proposal)
            if proposal is None:  # the strategy waits for a running trial; baselines need not
                return self._next_of(self._baselines)
            self.exhausted = True
        return self._next_retraining()

    def report(self, trial: Trial, result: TrialResult) -> bool:
        """Whether to stop a running trial, given its result so far."""
        if trial.stage != SEARCH or self.pruning is None:
            return False
        return self.pruning.should_stop(trial.id, result.metrics)

    def again(self, trial: Trial) -> None:
        """A running trial that lost its worker: it is among the next ones."""
        self._interrupted.append(self._records[trial.id])

    def finish(self, trial: Trial, result: TrialResult) -> None:
        """Record the outcome of a trial."""
        record, notes = self._records[trial.id], {}
        if trial.stage == SEARCH:
            notes = {"search_seconds": self.search_seconds, "proposals": self.proposals}
            if self._is_among_the_best(result):
                record = replace(record, likeness=described(parse(trial.expression))[2])
        self.store.finish(trial.id, result, record.likeness, notes)
        self._take(record, result)
        for listen in self.listeners:
            listen(self._records[trial.id])

    # --- what views show -------------------------------------------------------------------------------------------

    @property
    def search_over(self) -> bool:
        """Whether the search stage launches nothing more."""
        minutes = self.config.search.minutes
        out_of_time = minutes is not None and self.search_seconds > 60 * minutes
        return self.exhausted or out_of_time or self.launched(SEARCH) >= self.config.search.trials

    @property
    def search_seconds(self) -> float:
        return self._spent + time.monotonic() - self._started

    @property
    def proposals(self) -> dict[str, int]:
        """How many candidates were asked for, known already, and filtered before any training."""
        p = self.proposer
        return {"asked": p.asked, "duplicates": p.duplicates, "filtered": p.filtered}

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return self.search_over and not self.running() and self._queue is not None and not self.remaining_retrainings

    @property
    def remaining_retrainings(self) -> int:
        """Trials of the retrain stage not launched yet; an estimate while the search stage runs."""
        known = len(self._baselines)
        if self._queue is not None:
            return known + len(self._queue)
        top = self.config.retrain.top
        return known + (self.launched(SEARCH) if top == "all" else top) * self.config.retrain.seeds

    def launched(self, stage: str) -> int:
        return sum(n for (where, _), n in self.counts.items() if where == stage)

    def running(self, stage: str | None = None) -> int:
        return sum(n for (where, s), n in self.counts.items() if s == TrialState.RUNNING and stage in (None, where))

    # --- inside ----------------------------------------------------------------------------------------------------

    def _start_warm(self, given: list[Expression]) -> None:
        """Tell or queue what is known beforehand; it is kept with the study, which can then be moved."""
        stored = self.store.get("warm_start")
        known = warm_start(self.config) if stored is None else [Known.from_values(values) for values in stored]
        if stored is None and known:
            self.store.put("warm_start", [entry.to_values() for entry in known])
        keys = [self.proposer.adopt(expression) for expression in given]
        for entry in known:
            expression = parse(entry.expression)
            if entry.result is None:
                self.proposer.first.append(expression)
            else:
                self._told.append(entry)
                key = self.proposer.expect(expression)
                self.proposer.settle(key, entry.result)
                keys.append(key)
        if keys and self.store.get("known_keys") is None:
            self.store.put("known_keys", keys)  # the leaderboard tells them from baselines

    def _trial(self, stage: str, expression: str, seed: int) -> Trial:
        """A trial as the configuration wants it."""
        c, searching = self.config, stage == SEARCH
        return replace(
            c.full_trial(len(self._records) + 1, stage, expression, seed, self.precision),
            report_epochs=c.pruning.rungs if c.pruning and searching else (),
            anneal_epochs=c.pruning.rungs if c.pruning and c.pruning.anneal and searching else (),
            screen=c.search.screen and searching,
            measure_cost=c.search.cost == "time" and stage != RELAX,
        )

    def _launch_proposal(self, proposal: Proposal) -> Trial:
        candidate = proposal.candidate
        if isinstance(candidate, Candidate):
            return self._launch(SEARCH, candidate.expression, proposal.key, self.config.seed)
        return self._launch_relaxation(candidate.relaxation, proposal.key)

    def _launch(self, stage: str, expression: Expression, key: str, seed: int) -> Trial:
        formula, name, like = described(expression) if stage == RETRAIN else (*named(expression), None)
        return self._add(Record(self._trial(stage, str(expression), seed), key, formula, name, None, like), launch=True)

    def _launch_relaxation(self, relaxation: Relaxation, key: str) -> Trial:
        """Many functions in one network: in float32, and as long as it takes."""
        trial = self._trial(RELAX, relaxation.shape, self.config.seed + relaxation.attempt)
        trial = replace(trial, relaxation=relaxation, precision="fp32", max_seconds=None, max_steps=None)
        trial = replace(trial, budget_epochs=relaxation.epochs or _RELAXED_EPOCHS * trial.budget_epochs)
        return self._add(Record(trial, key, f"relaxed {relaxation.shape}", None, None), launch=True)

    def spectrum(self, expression: Expression) -> NDArray[np.float64]:
        """The Fisher spectrum of the network that a trial of this function would start from."""
        from trainers.fisher import trial_spectrum

        return trial_spectrum(self._trial(SEARCH, str(expression), self.config.seed))

    def _add(self, record: Record, *, launch: bool = False) -> Trial:
        trial = record.trial
        if launch:
            self.store.launch(record)
        self._records[trial.id] = record
        self.counts[trial.stage, TrialState.RUNNING] += 1
        if trial.stage == RETRAIN:
            self._done.add((record.function_key, trial.seed))
        return trial

    def _take(self, record: Record, result: TrialResult) -> None:
        trial = record.trial
        record = replace(record, result=result)
        self._records[trial.id] = record
        self.counts[trial.stage, TrialState.RUNNING] -= 1
        self.counts[trial.stage, result.state] += 1
        if trial.stage == RETRAIN:
            return
        self.proposer.settle(record.function_key, result)
        if trial.stage == RELAX:
            return
        value = self.objective.value(result)
        if result.state != TrialState.COMPLETE or value is None:
            return
        self._best_values = heapq.nlargest(_LIKENED, [*self._best_values, value])
        if self.best is None or value > self.best.value:
            self.best = Best(value, record)

    def _is_among_the_best(self, result: TrialResult) -> bool:
        """Of those so far. What they are like is worth knowing, and takes too long for all."""
        value = self.objective.value(result)
        if result.state != TrialState.COMPLETE or value is None:
            return False
        return len(self._best_values) < _LIKENED or value > self._best_values[-1]

    def _next_retraining(self) -> Trial | Signal | None:
        self._choose_finalists()
        trial = self._next_of(self._baselines) or self._next_of(self._queue or deque())
        return trial or (EXHAUSTED if self._queue is not None else None)

    def _choose_finalists(self) -> None:
        """Queue their retrainings, once nothing runs that decides who they are."""
        if self._queue is None and not self.running(SEARCH) and not self.running(RELAX):
            planned = self._retrainings(self._finalists())
            self._queue = deque(entry for entry in planned if entry[1:] not in self._done)

    def _next_of(self, queue: deque[tuple[Expression, str, int]]) -> Trial | None:
        while queue:
            expression, key, seed = queue.popleft()
            if (key, seed) not in self._done:  # a finalist may be a baseline, or retrained before a resume
                return self._launch(RETRAIN, expression, key, seed)
        return None

    def _retrainings(self, expressions: list[Expression]) -> list[tuple[Expression, str, int]]:
        """Every expression with every fresh seed, seed by seed, so that an early end leaves matched seeds."""
        seeds = range(self.config.seed + 1, self.config.seed + 1 + self.config.retrain.seeds)
        functions: dict[str, Expression] = {}
        for expression in expressions:
            functions.setdefault(self.proposer.adopt(expression), expression)
        return [(expression, key, seed) for seed in seeds for key, expression in functions.items()]

    def _finalists(self) -> list[Expression]:
        """The best complete candidates, of an earlier study too; with a cost, those on the Pareto front first."""
        if self.config.retrain.top == "all":
            return [parse(r.trial.expression) for r in self._records.values() if r.trial.stage == SEARCH]
        searched = [(r.trial.expression, r.result) for r in self._records.values() if r.trial.stage == SEARCH]
        earlier = [(entry.expression, entry.result) for entry in self._told]
        complete = [
            Finalist(parse(text), result, self.objective)
            for text, result in (*searched, *earlier)
            if result is not None and result.state == TrialState.COMPLETE
        ]
        found: dict[str, Expression] = {}
        for finalist in ranked(complete):  # an earlier study may have told two functions that count as one here
            found.setdefault(self.proposer.adopt(finalist.expression), finalist.expression)
        return list(found.values())[: self.config.retrain.top]

    def _replay(self) -> None:
        """Bring strategy, pruning rule and counters to where the stored events left them."""
        for event in self.store.events():
            record = event.record
            if record.trial.stage == CONFIRM:
                self._records[record.trial.id] = record  # for its number
            elif event.kind == "launch":
                self._replay_launch(record)
            elif record.result is not None:
                for metrics in record.result.history:
                    if self.pruning and record.trial.stage == SEARCH:
                        self.pruning.should_stop(record.trial.id, metrics)
                self._take(self._records[record.trial.id], record.result)
        self._interrupted.extend(r for r in self._records.values() if r.result is None and r.trial.stage != CONFIRM)

    def _replay_launch(self, record: Record) -> None:
        """Ask the strategy as it was asked then; if it answers otherwise (its code changed), it is told a stranger."""
        key = record.function_key
        if record.trial.stage != RETRAIN:
            proposal = self.proposer.propose()
            if not isinstance(proposal, Proposal) or proposal.key != key:
                self.strangers.append(record.trial.id)
                if isinstance(proposal, Proposal):
                    self.proposer.withdraw(proposal)
                if record.trial.stage == SEARCH:
                    key = self.proposer.expect(parse(record.trial.expression))
        else:
            key = self.proposer.adopt(parse(record.trial.expression))
        self._add(replace(record, function_key=key, result=None))
