"""``nas bench``: replay strategies against a table of results, without training anything.

A replay is a search as ``nas search`` does it, one function at a time: the strategy sees the results of *one* seed, and
what it finds is judged by the mean over the *other* seeds, so that the luck of the seed by which a function was picked
does not count. Replay r of every strategy sees the same seed of the table, so that strategies are compared in pairs.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.replays import Figures, Judge, figures
from analysis.yardstick import ResultTable, TableError, read_table
from nas.config import ExperimentConfig, restore_config
from nas.proposer import Proposal, Proposer
from nas.strategies import Objective, Problem, RelaxedCandidate, strategies
from nas.yaml_config import ConfigError, apply_override
from search_spaces.equivalence import EquivalenceIndex, rejection
from search_spaces.expression import Expression
from search_spaces.parser import parse
from search_spaces.registry import nearest
from trainers.trial import METRICS, Relaxation, Trial, TrialResult, TrialState

SIMPLE = ("random", "exhaustive", "evolution")
"""Strategies without a model of the space: what the others have to beat."""
NOTHING = -1
"""In a replay's list of functions: an evaluation's worth of time that gave none, as of a relaxed network."""


@dataclass(frozen=True)
class Entrant:
    """A strategy with the options that are not its defaults."""

    name: str
    given: tuple[tuple[str, Any], ...] = ()

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.given)

    @property
    def label(self) -> str:
        """How it is called in the result."""
        given = ((key, str(value).lower() if isinstance(value, bool) else value) for key, value in self.given)
        return " ".join([self.name, *(f"{key}={value}" for key, value in given)])


def read_entrants(texts: Sequence[str]) -> tuple[Entrant, ...]:
    """Entrants from ``NAME`` or ``NAME KEY=VALUE ...``, each once.

    Raises:
        ConfigError: strategies or options that do not exist, all of them, with the near misses.
    """
    entrants, faults = [], []
    for text in texts:
        name, *overrides = text.split() or [""]
        options: dict[str, Any] = {}
        faults += [fault for override in overrides if (fault := apply_override(options, override))]
        options, found = strategies.check(name, options)
        faults += found
        entrants.append(Entrant(name, tuple(options.items())))
    if faults:
        raise ConfigError("--strategy", faults)
    return tuple(dict.fromkeys(entrants))


@dataclass(frozen=True)
class Replay:
    """What one search would have evaluated: rows of the table in order, and what proposing them cost."""

    functions: NDArray[np.int64]
    seconds: float


class Arena:
    """A table prepared for replays: every spelling of the space is known to be a row of it, or not worth a training."""

    def __init__(self, table: ResultTable) -> None:
        self.table = table
        self.config = configuration(table)
        self.space = self.config.make_space()
        self._index = EquivalenceIndex(self.config.search.equivalence)
        try:
            texts = list(map(parse, table.functions["expression"]))
        except ValueError as error:
            raise TableError(f"the table has a function that cannot be read: {' '.join(str(error).split())}") from error
        self._rows = {self._index.add(expression): row for row, expression in enumerate(texts)}
        if len(self._rows) != len(table.functions):
            raise TableError("the table has a function twice; make it again with nas table")
        self._keys: dict[Expression, str] = {}
        self._reasons: dict[Expression, str | None] = {}
        self._results = {seed: table.results(seed) for seed in table.seeds}

    def check(self) -> None:
        """Raises TableError unless the table's functions are those of its space."""
        rows = {self.add(expression) for expression in self.space.enumerate() if self.judge(expression) is None}
        strangers = [text for row, text in enumerate(self.table.functions["expression"]) if str(row) not in rows]
        if strangers:
            raise TableError(
                f"the table has {len(strangers)} functions that are not in its space {self.config.space.name!r}, such "
                f"as {strangers[0]}; make it again with nas table"
            )

    def add(self, expression: Expression) -> str:
        """The row of a function, as a key: what a Proposer wants of an index."""
        if expression not in self._keys:
            key = self._index.find(expression)
            if key is None or key not in self._rows:
                raise TableError(
                    f"the table has no row for {expression}, which is in its space {self.config.space.name!r}: it was "
                    "made with another version of that space; make it again with nas table"
                )
            self._keys[expression] = str(self._rows[key])
        return self._keys[expression]

    def judge(self, expression: Expression) -> str | None:
        if expression not in self._reasons:
            self._reasons[expression] = rejection(expression)
        return self._reasons[expression]

    def spectrum(self, expression: Expression) -> NDArray[np.float64]:
        if self.judge(expression) is not None:  # never trained, so its spectrum was not taken
            return np.zeros_like(self._spectra[0])
        return self._spectra[int(self.add(expression))]

    @cached_property
    def _spectra(self) -> NDArray[np.float64]:
        return np.stack(list(self.table.functions["spectrum"])).astype(float)

    def replay(self, entrant: Entrant, objective: Objective, number: int, evaluations: int) -> Replay:
        """Search number ``number`` of an entrant; shorter if its strategy has nothing left to propose."""
        start = time.perf_counter()
        seed = self.table.seeds[number % len(self.table.seeds)]
        problem = Problem(self.space, objective, number, self.spectrum)
        proposer = Proposer(strategies.get(entrant.name)(problem, **entrant.options), self, self.judge)
        functions: list[int] = []
        while len(functions) < evaluations:
            proposal = proposer.propose()
            if not isinstance(proposal, Proposal):
                break
            if isinstance(proposal.candidate, RelaxedCandidate):
                result, cost = self._relaxed(proposal.candidate, number)
                functions += [NOTHING] * cost
                proposer.settle(proposal.key, result)
                continue
            row = int(proposal.key)
            functions.append(row)
            proposer.settle(proposal.key, self._results[seed][row])
        return Replay(np.array(functions[:evaluations]), time.perf_counter() - start)

    def _relaxed(self, candidate: RelaxedCandidate, number: int) -> tuple[TrialResult, int]:
        """One of the table's relaxations, and how many evaluations its training took the time of."""
        wanted = candidate.relaxation
        same = relaxations(self.table, wanted)
        result = same[(number // len(self.table.seeds) + wanted.attempt) % len(same)]  # each meets every seed
        trainings = self.table.trainings
        usual = trainings.loc[trainings["state"] == TrialState.COMPLETE, "seconds"].mean()
        return result, max(1, round(result.seconds / usual))


def configuration(table: ResultTable) -> ExperimentConfig:
    """What a table was made by.

    Raises:
        TableError: it does not say.
        ConfigError: what it says is none of this program.
    """
    values = table.about.get("config")
    if not isinstance(values, dict):
        raise TableError("the table does not say by which configuration it was made; make it again with nas table")
    return restore_config(values)


def relaxations(table: ResultTable, wanted: Relaxation) -> list[TrialResult]:
    """The outcomes of all relaxations in a table that were trained as wanted.

    Raises:
        TableError: there is none, or they cannot be read.
    """
    try:
        entries = table.about.get("relaxations") or ()
        stored = [(Trial.from_json(e["trial"]), TrialResult.from_json(e["result"])) for e in entries]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise TableError("the table's relaxations cannot be read; make it again with nas table") from error
    same = [
        result
        for trial, result in stored
        if trial.relaxation is not None and replace(trial.relaxation, attempt=0) == replace(wanted, attempt=0)
    ]
    if not same:
        raise TableError(
            f"the table has {len(stored)} relaxations, none with these settings, so that gradient cannot be replayed; "
            "make the table with nas table --relaxations N, or leave gradient out"
        )
    return same


_arena: Arena | None = None


def _open(folder: Path) -> None:
    global _arena
    import torch

    torch.set_num_threads(1)
    _arena = Arena(read_table(folder))


def _replays(entrant: Entrant, objective: Objective, numbers: Sequence[int], evaluations: int) -> list[Replay]:
    assert _arena is not None
    return [_arena.replay(entrant, objective, number, evaluations) for number in numbers]


@dataclass(frozen=True)
class Bench:
    """What to replay: entrants, so many times, for so many evaluations."""

    folder: Path
    table: ResultTable
    objective: Objective
    entrants: tuple[Entrant, ...]
    replays: int
    evaluations: int

    @classmethod
    def open(cls, folder: Path, names: Sequence[str], metric: str | None, replays: int, evaluations: int) -> Bench:
        """A bench of the named strategies (default: all) on the table in a folder, by a metric (default: its own).

        Raises:
            TableError: no table, or not one of these spaces and this metric.
            ConfigError: a strategy or an option that does not exist, or does not go with the table's space.
        """
        table = read_table(folder)
        config = configuration(table)
        objective = Objective(metric or config.search.objective)
        if objective.metric not in METRICS:
            raise TableError(f"unknown metric {metric!r}; {nearest(str(metric), METRICS)}")
        if np.isnan(table.values(objective.metric)).all():
            raise TableError(f"{folder} has no values of {objective.metric}; choose another metric")
        entrants = read_entrants(names) if names else default_entrants(table)
        problem = Problem(config.make_space(), objective)
        for entrant in entrants:
            try:
                asked = strategies.get(entrant.name)(problem, **entrant.options).ask()
            except ValueError as error:
                raise ConfigError("--strategy", [f"{entrant.label}: {' '.join(str(error).split())}"]) from error
            if isinstance(asked, RelaxedCandidate):
                relaxations(table, asked.relaxation)
        Arena(table).check()
        return cls(folder, table, objective, entrants, replays, min(evaluations, len(table.functions)))

    @cached_property
    def judge(self) -> Judge:
        return Judge(self.table, self.objective.metric)

    @property
    def facts(self) -> dict[str, Any]:
        """What was replayed, for programs."""
        return {
            "table": self.table.about["config"]["name"],
            "functions": len(self.table.functions),
            "seeds": list(self.table.seeds),
            "metric": self.objective.metric,
            "replays": self.replays,
            "evaluations": self.evaluations,
            "noise": self.judge.noise,
        }

    def run(
        self, workers: int, step: Callable[[int, int], None] = lambda done, total: None
    ) -> tuple[dict[Entrant, Figures], dict[Entrant, float]]:
        """Every entrant's figures, and the seconds that a proposal takes it; ``step`` is told how far it is.

        Replays run side by side on so many processes, each of them on one thread.
        """
        parts = [range(i, self.replays, 4 * workers) for i in range(min(4 * workers, self.replays))]
        spawn = multiprocessing.get_context("spawn")
        results, seconds, done = {}, {}, 0
        with ProcessPoolExecutor(workers, spawn, _open, (self.folder,)) as pool:
            jobs = {
                e: [pool.submit(_replays, e, self.objective, part, self.evaluations) for part in parts]
                for e in self.entrants
            }
            try:
                for entrant, futures in jobs.items():
                    found: dict[int, Replay] = {}
                    for part, future in zip(parts, futures, strict=True):
                        found |= dict(zip(part, future.result(), strict=True))
                        done += len(part)
                        step(done, self.replays * len(self.entrants))
                    ordered = [found[number] for number in range(self.replays)]
                    results[entrant] = figures(self.judge, [r.functions for r in ordered], self.evaluations)
                    seconds[entrant] = sum(r.seconds for r in ordered) / max(1, sum(len(r.functions) for r in ordered))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return results, seconds


def default_entrants(table: ResultTable) -> tuple[Entrant, ...]:
    """Every strategy with its default options; gradient only where there are relaxations to replay."""
    names = [name for name in strategies.names() if name != "gradient" or table.about.get("relaxations")]
    return tuple(map(Entrant, names))
