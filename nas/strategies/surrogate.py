"""Surrogate search: predict every function's result from what is known before a training, and ask for a promising one.

A function is described by its values, slopes and properties (search_spaces.features) and, if wanted, by the Fisher
spectrum of its network at initialisation, after Bingham and Miikkulainen 2023 (AQuaSurF, arXiv 2301.05785), who asked
for the best predicted. Here the prediction's uncertainty counts too: mean + kappa standard deviations, the upper
confidence bound (Srinivas et al. 2010, arXiv 0912.3995).
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeFloat, PositiveInt

from nas.prediction import Model, normal_scores, predict
from nas.strategies import EXHAUSTED, Candidate, Problem, RelaxedCandidate, Signal, Spectrum, Strategy, strategies
from search_spaces.census import FunctionSampler
from search_spaces.equivalence import rejection
from search_spaces.expression import Expression, size
from search_spaces.features import features
from search_spaces.space import SearchSpace
from trainers.trial import TrialResult

Floats = NDArray[np.float64]

WHOLE = 20
"""Spaces of up to so many times ``pool_size`` spellings are looked at as a whole; of larger ones a pool is drawn."""
SHORTLIST = 200
"""So many functions, the most promising by their values and slopes, have their spectrum taken."""
_PARENTS = 10  # the best functions, whose mutations make up half of a pool
_LASTS = 10  # so many results; then another pool is drawn


class Surrogate(Strategy):
    """The simplest functions, or random ones, for ``startup`` results; then what a model promises most of.

    The model is fitted anew after ``refit_every`` further results, and of many results after 5 % more of them.
    Values become normal scores of their ranks, failures sharing the lowest, so that outliers do not count and every
    metric is the same to the model.
    """

    def __init__(
        self,
        problem: Problem,
        model: Model,
        kappa: float,
        startup: int,
        refit_every: int,
        pool_size: int,
        start: str,
    ) -> None:
        super().__init__(problem)
        self.seed, self.spectrum = problem.seed, problem.spectrum
        self.model, self.kappa, self.startup, self.refit_every = model, kappa, startup, refit_every
        self.pool_size, self.start = pool_size, start
        self.whole = whole_space(problem.space) if problem.space.size <= WHOLE * pool_size else None
        self._rows: dict[Expression, Floats] = {} if self.whole is None else dict(zip(*self.whole, strict=True))
        self._spectra: dict[Expression, Floats] = {}
        self._told: dict[Expression, float | None] = {}
        self._asked: set[Expression] = set()
        self._choices = self._draw() if self.whole is None else list(self.whole[0])
        self._drawn_at = 0
        self._ranked = self._first()  # candidates, the most promising last
        self._fitted_to = 0

    def ask(self) -> Candidate | Signal | None:
        wanted = self._fitted_to + max(self.refit_every, self._fitted_to // 20)
        if len(self._told) >= max(self.startup, wanted):
            self._refit()
        while self._ranked:
            expression = self._ranked.pop()
            if expression not in self._asked and rejection(expression) is None:
                self._asked.add(expression)
                return Candidate(expression)
        if self.whole is not None:
            return EXHAUSTED
        return Candidate(self.space.sample(self.rng))

    def tell(self, candidate: Candidate | RelaxedCandidate, result: TrialResult) -> None:
        if isinstance(candidate, Candidate) and self.space.contains(candidate.expression):
            self._asked.add(candidate.expression)
            self._told[candidate.expression] = self.objective.value(result)

    # --- candidates ------------------------------------------------------------------------------------------------

    def _first(self) -> list[Expression]:
        """What to begin with, the first one last: the simplest functions, or random ones, in random order."""
        mixed = [self._choices[i] for i in self.rng.permutation(len(self._choices))]
        return sorted(mixed, key=size, reverse=True) if self.start == "simple" else mixed

    def _pool(self) -> list[Expression]:
        """Functions not asked for: all of them, or those of a pool, which is drawn anew now and then."""
        if self.whole is None and len(self._told) >= self._drawn_at + _LASTS:
            self._choices, self._drawn_at = self._draw(), len(self._told)
            self._rows = {expression: row for expression, row in self._rows.items() if expression in self._told}
        return [expression for expression in self._choices if expression not in self._asked]

    def _draw(self) -> list[Expression]:
        """A pool of a large space: random functions, and as many mutations of the best so far."""
        known = sorted((v, i) for i, v in enumerate(self._told.values()) if v is not None)
        told = list(self._told)
        parents = [told[i] for _, i in known[-_PARENTS:]]
        drawn = [self.space.sample(self.rng) for _ in range(self.pool_size // (2 if parents else 1))]
        while parents and len(drawn) < self.pool_size:
            drawn.append(self.space.mutate(parents[int(self.rng.integers(len(parents)))], self.rng))
        return list(dict.fromkeys(drawn))

    def _described(self, expressions: list[Expression]) -> Floats:
        missing = [expression for expression in expressions if expression not in self._rows]
        self._rows.update(zip(missing, features(missing), strict=True))
        return np.stack([self._rows[expression] for expression in expressions])

    def _with_spectrum(self, spectrum: Spectrum, expressions: list[Expression]) -> Floats:
        missing = [expression for expression in expressions if expression not in self._spectra]
        self._spectra.update((expression, spectrum(expression)) for expression in missing)
        spectra = np.stack([self._spectra[expression] for expression in expressions])
        return np.concatenate([self._described(expressions), spectra], axis=1)

    # --- prediction ------------------------------------------------------------------------------------------------

    def _refit(self) -> None:
        self._fitted_to = len(self._told)
        pool = self._pool()
        if not pool:
            self._ranked = []
            return
        told, scores = list(self._told), normal_scores(list(self._told.values()))
        ranked = self._by_promise(pool, self._described(told), scores, self._described(pool))
        if self.spectrum is not None:
            ranked, short = ranked[:-SHORTLIST], ranked[-SHORTLIST:]
            known, unknown = (self._with_spectrum(self.spectrum, expressions) for expressions in (told, short))
            ranked += self._by_promise(short, known, scores, unknown)
        self._ranked = ranked

    def _by_promise(self, pool: list[Expression], known: Floats, scores: Floats, unknown: Floats) -> list[Expression]:
        """The pool by its upper confidence bounds, rising."""
        mean, std = predict(self.model, known, scores, unknown, self.seed)
        return [pool[i] for i in np.argsort(mean + self.kappa * std, kind="stable")]


@lru_cache(maxsize=2)
def whole_space(space: SearchSpace) -> tuple[tuple[Expression, ...], Floats]:
    """The trainable functions of a space and their features."""
    functions = FunctionSampler(space, trainable=True).functions
    return tuple(functions), features(functions)


@strategies.register("surrogate")
def surrogate(
    problem: Problem,
    *,
    model: Model = "forest",
    kappa: NonNegativeFloat = 1.0,
    startup: PositiveInt = 10,
    refit_every: PositiveInt = 1,
    pool_size: PositiveInt = 1_000,
    start: Literal["simple", "random"] = "simple",
    spectrum: bool = False,
) -> Strategy:
    """``spectrum`` takes a forward and a backward pass of the network for every function on the shortlist."""
    if not spectrum:
        problem = replace(problem, spectrum=None)
    return Surrogate(problem, model, kappa, startup, refit_every, pool_size, start)
