"""Confirming a study: its leaders and baselines with fresh seeds, on the whole training set, scored on the test set.

The search has looked at the validation part thousands of times; the test set has not been seen by anything. Other
models and data sets may be added, each as a configuration of its own ("setting"): what wins on one task only is worth
less. Trials run as those of a search do, and land in its store as stage ``confirm``.
"""

from __future__ import annotations

import shlex
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from analysis.leaderboard import of_trials
from analysis.store import Record, Store
from analysis.trials import read_trials
from nas.config import ExperimentConfig, load_config
from nas.search import CONFIRM, described
from nas.strategies import EXHAUSTED, Signal
from search_spaces.equivalence import EquivalenceIndex
from search_spaces.expression import Expression
from search_spaces.known import known_expression
from search_spaces.parser import parse
from trainers.trial import Trial, TrialResult, TrialState


class ConfirmError(ValueError):
    """A study that cannot be confirmed as asked. The message says what to do."""


@dataclass(frozen=True)
class Setting:
    """A model with its data, recipe and budget. ``name`` is None for the study's own."""

    name: str | None
    config: ExperimentConfig


@dataclass(frozen=True)
class Entrant:
    """A function that is confirmed, and what the store knows about it."""

    expression: Expression
    function_key: str
    formula: str
    known_name: str | None
    likeness: str | None


def find_settings(home: ExperimentConfig, also: Sequence[str]) -> list[Setting]:
    """The study's own setting, and others.

    Args:
        home: the study's configuration.
        also: a configuration's name or file each, with overrides (``"cifar100_wrn28_10 trial.epochs=5"``), or several
            without any (``"cifar100_wrn28_10,shakespeare_gpt"``).

    Raises:
        ConfigError: all that is wrong with one of them.
        ConfirmError: two have the same name.
    """
    settings = [Setting(None, home)]
    for text in [part for several in also for part in ([several] if "=" in several else several.split(","))]:
        try:
            name, *overrides = shlex.split(text)
        except ValueError as error:
            raise ConfirmError(f"--also takes 'CONFIG [KEY=VALUE]...', got {text!r} ({error})") from error
        config = load_config(name, [*overrides, "pruning=null"])  # it has no part in a confirmation
        if config.name in {home.name, *(setting.name for setting in settings)}:
            raise ConfirmError(f"two settings have the name {config.name}; give one of them another: name=...")
        settings.append(Setting(config.name, config))
    return settings


def find_entrants(store: Store, config: ExperimentConfig, top: int) -> list[Entrant]:
    """The best functions found, as they stood before any confirmation, and the baselines.

    Raises:
        ConfirmError: nothing has completed.
    """
    trials = read_trials(store)
    before = trials[trials["stage"] != CONFIRM]
    earlier = set(store.get("known_keys", []))
    rows = of_trials(before, objective=config.search.objective, earlier=earlier)
    leaders = rows[(rows["state"] == "COMPLETE") & rows["found"]].head(top) if len(rows) else rows
    if leaders.empty:
        raise ConfirmError(f"{store.path.parent} has no function that completed its training; there is none to confirm")
    entrants = [_entrant(row) for _, row in leaders.iterrows()]
    known = {entrant.known_name for entrant in entrants}
    for name in config.baselines:
        if name not in known:
            rows_of_it = rows[rows["name"] == name]
            entrants.append(_entrant(rows_of_it.iloc[0]) if len(rows_of_it) else _newcomer(name, rows, config))
    return entrants


def _entrant(row: pd.Series) -> Entrant:
    texts = [None if pd.isna(row[name]) else str(row[name]) for name in ("name", "likeness")]
    return Entrant(parse(row["expression"]), row["function_key"], row["formula"], *texts)


def _newcomer(name: str, rows: pd.DataFrame, config: ExperimentConfig) -> Entrant:
    """A baseline that the study has not come to, with the key of its equal if there is one."""
    index = EquivalenceIndex(config.search.equivalence)
    keys = {index.add(parse(row["expression"])): row["function_key"] for _, row in rows.iterrows()}
    expression = known_expression(name)
    key = index.add(expression)
    return Entrant(expression, keys.get(key, f"baseline {name}"), *described(expression))


class Confirmation:
    """The trials of a confirmation, for executors; see nas.search.Search. What the store has already is not run again.

    Attributes:
        config: of the study.
        total: trials of this confirmation, finished ones included.
        counts: those by state.
    """

    def __init__(
        self, store: Store, settings: Sequence[Setting], entrants: Sequence[Entrant], seeds: int, precision: str
    ) -> None:
        self.store, self.settings, self.precision = store, list(settings), precision
        self.config = settings[0].config
        self.listeners: list[Callable[[Record], None]] = []
        records = store.records()
        self._number = max((record.trial.id for record in records), default=0)
        of_stage = [record for record in records if record.trial.stage == CONFIRM]
        self._records = {record.trial.id: record for record in of_stage}
        self._interrupted = deque(record for record in of_stage if record.result is None)
        stored = {(r.function_key, r.trial.setting, r.trial.seed): r for r in of_stage}
        plan = [(entrant, setting, seed) for seed in self._seeds(seeds) for setting in settings for entrant in entrants]
        keys = [(entrant.function_key, setting.name, seed) for entrant, setting, seed in plan]
        self._queue = deque(entry for entry, key in zip(plan, keys, strict=True) if key not in stored)
        self.total = len(set(keys) | {_key(record) for record in self._interrupted})
        done = (stored[key].result for key in keys if key in stored)
        self.counts: Counter[TrialState] = Counter(result.state for result in done if result)
        store.put("settings", store.get("settings", {}) | _dumped(settings))

    @property
    def done(self) -> bool:
        return not self._queue and not self._interrupted and not self.counts[TrialState.RUNNING]

    @property
    def left(self) -> int:
        """Trials that have not ended."""
        return len(self._queue) + len(self._interrupted) + self.counts[TrialState.RUNNING]

    def next(self) -> Trial | Signal | None:
        """A trial to run now; EXHAUSTED when all have been started."""
        if self._interrupted:
            record = self._interrupted.popleft()
        elif self._queue:
            record = self._record(*self._queue.popleft())
        else:
            return EXHAUSTED
        self.store.launch(record)
        self._records[record.trial.id] = record
        self.counts[TrialState.RUNNING] += 1
        return record.trial

    def report(self, trial: Trial, result: TrialResult) -> bool:
        """None is ever stopped."""
        return False

    def again(self, trial: Trial) -> None:
        """A running trial that lost its worker: it is among the next ones."""
        self.counts[TrialState.RUNNING] -= 1
        self._interrupted.append(self._records[trial.id])

    def finish(self, trial: Trial, result: TrialResult) -> None:
        """Record the outcome of a trial."""
        self.store.finish(trial.id, result)
        self.counts[TrialState.RUNNING] -= 1
        self.counts[result.state] += 1
        for listen in self.listeners:
            listen(replace(self._records[trial.id], result=result))

    def _seeds(self, number: int) -> range:
        """Beyond those of the search and of its retraining."""
        first = self.config.seed + 1 + self.config.retrain.seeds
        return range(first, first + number)

    def _record(self, entrant: Entrant, setting: Setting, seed: int) -> Record:
        self._number += 1
        trial = setting.config.full_trial(self._number, CONFIRM, str(entrant.expression), seed, self.precision)
        trial = replace(trial, score_on="test", setting=setting.name)
        return Record(trial, entrant.function_key, entrant.formula, entrant.known_name, None, entrant.likeness)


def _key(record: Record) -> tuple[str, str | None, int]:
    return record.function_key, record.trial.setting, record.trial.seed


def _dumped(settings: Sequence[Setting]) -> dict[str, object]:
    return {setting.name: setting.config.model_dump(mode="json") for setting in settings if setting.name}
