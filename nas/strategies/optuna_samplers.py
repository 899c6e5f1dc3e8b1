"""Optuna's samplers over the choice vector: TPE and NSGA-II.

TPE: Bergstra et al. 2011, "Algorithms for hyper-parameter optimization"; multivariate, with groups for conditional
choices (Falkner et al. 2018). NSGA-II: Deb et al. 2002. Every position of the choice vector is a categorical parameter;
which choices it has may depend on those before it. With ``objective.cost`` both optimise two objectives.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from nas.strategies import Candidate, Problem, RelaxedCandidate, Signal, Strategy, strategies
from search_spaces.expression import Expression
from search_spaces.space import Choices
from trainers.trial import TrialResult

if TYPE_CHECKING:
    import optuna

_INVALID = 50  # vectors in a row that a constrained space refuses; then a random member is asked


class OptunaStrategy(Strategy):
    """Ask and tell on a study in memory.

    A failure is told as the worst outcome so far, so that the sampler learns to stay away; before there is any, as a
    failure, of which samplers take no notice.
    """

    weighs_cost = True

    def __init__(self, problem: Problem, sampler: optuna.samplers.BaseSampler) -> None:
        import optuna

        super().__init__(problem)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        up, down = optuna.study.StudyDirection.MAXIMIZE, optuna.study.StudyDirection.MINIMIZE
        directions = [up, down] if problem.objective.cost else [up]
        self.study = optuna.create_study(sampler=sampler, directions=directions)
        self._pending: dict[Expression, list[optuna.Trial]] = defaultdict(list)
        self._worst: list[float] | None = None

    def ask(self) -> Candidate | Signal | None:
        for _ in range(_INVALID):
            trial = self.study.ask()
            try:
                expression = self.space.decode(self._suggest(trial))
            except ValueError:  # a constraint of the space
                self._close(trial, None)
                continue
            self._pending[expression].append(trial)
            return Candidate(expression)
        return Candidate(self.space.sample(self.rng))

    def tell(self, candidate: Candidate | RelaxedCandidate, result: TrialResult) -> None:
        if not isinstance(candidate, Candidate):
            return
        values = self._values(candidate.expression, result)
        if values is not None:
            self._worst = values if self._worst is None else self._worse(values, self._worst)
        pending = self._pending.get(candidate.expression)
        if pending:
            self._close(pending.pop(0), values)
        elif self.space.contains(candidate.expression):
            self._add_stranger(candidate.expression, values or self._worst)

    def _values(self, expression: Expression, result: TrialResult) -> list[float] | None:
        value = self.objective.value(result)
        if value is None or not self.objective.cost:
            return None if value is None else [value]
        cost = self.objective.cost_of(expression, result)
        return None if cost is None else [value, cost]

    @staticmethod
    def _worse(a: list[float], b: list[float]) -> list[float]:
        return [min(a[0], b[0]), *map(max, a[1:], b[1:])]

    def _suggest(self, trial: optuna.Trial) -> Choices:
        choices: tuple[int, ...] = ()
        for _ in self.space.cardinalities:
            options = self.space.options(choices)
            if len(options) > 1:  # a parameter has the same choices wherever its name occurs
                choices += (trial.suggest_categorical(_name(len(choices), options), tuple(options)),)
            else:
                choices += (options[0],)
        return choices

    def _close(self, trial: optuna.Trial, values: list[float] | None) -> None:
        import optuna

        values = values or self._worst
        if values is None:
            self.study.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            self.study.tell(trial, values)

    def _add_stranger(self, expression: Expression, values: list[float] | None) -> None:
        """As if it had been asked for; NSGA-II takes no parents from trials that were merely added."""
        if values is None:
            return
        choices = self.space.encode(expression)
        free = ((i, self.space.options(choices[:i])) for i in range(len(choices)))
        self.study.enqueue_trial({_name(i, options): choices[i] for i, options in free if len(options) > 1})
        trial = self.study.ask()
        self._suggest(trial)
        self._close(trial, values)


def _name(position: int, options: object) -> str:
    return f"{position} of {options}"


@strategies.register("tpe")
def tpe(problem: Problem, *, startup_trials: Annotated[int, Field(ge=1)] = 20) -> Strategy:
    """Random for the first trials, from what the good ones have that the others have not afterwards."""
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # group
        sampler = optuna.samplers.TPESampler(
            seed=problem.seed, n_startup_trials=startup_trials, multivariate=True, group=True, constant_liar=True
        )
    return OptunaStrategy(problem, sampler)


@strategies.register("nsga2")
def nsga2(problem: Problem, *, population_size: Annotated[int, Field(ge=2, le=100_000)] = 32) -> Strategy:
    """A population that is replaced as a whole; of two objectives, those on the better fronts survive."""
    import optuna

    return OptunaStrategy(problem, optuna.samplers.NSGAIISampler(seed=problem.seed, population_size=population_size))
