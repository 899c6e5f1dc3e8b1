"""Between a strategy and the trials: a function is trained once however often and however it is spelled, and one that
cannot work (not finite, constant, affine) is never trained."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np

from nas.strategies import EXHAUSTED, Candidate, RelaxedCandidate, Signal, Strategy
from search_spaces.census import LIMIT
from search_spaces.equivalence import EquivalenceIndex, rejection
from search_spaces.expression import Expression
from trainers.trial import TrialResult, TrialState

_DRAWS = 2_000
"""So many random members are looked at for a new function; then the space is gone through from its beginning."""


class Index(Protocol):
    """Gives equal functions equal keys."""

    def add(self, expression: Expression) -> str: ...


@dataclass(frozen=True)
class Proposal:
    """A function to train; ``key`` is equal for equal functions."""

    key: str
    candidate: Candidate | RelaxedCandidate


@dataclass
class Proposer:
    """Asks a strategy until it proposes something new, and tells it every outcome.

    A strategy that has proposed nothing new for as long as its ``patience`` lasts is helped out by a random new
    function, so that no search ends while its space (of up to LIMIT spellings) holds one.

    Attributes:
        strategy: whom to ask.
        index: decides which functions are equal.
        judge: why a function is not worth a training; None if it is.
        first: functions to propose before the strategy is asked for the first time.
    """

    strategy: Strategy
    index: Index = field(default_factory=EquivalenceIndex)
    judge: Callable[[Expression], str | None] = rejection
    first: deque[Expression] = field(default_factory=deque)
    asked: int = 0
    duplicates: int = 0
    filtered: int = 0
    _results: dict[str, TrialResult] = field(default_factory=dict)
    _waiting: dict[str, list[Candidate | RelaxedCandidate]] = field(default_factory=dict)
    _relaxed: int = 0

    def propose(self) -> Proposal | Signal | None:
        """A function not seen before; None to ask again when a running trial has ended."""
        while self.first:
            if proposal := self._new(Candidate(self.first.popleft())):
                return proposal
        for _ in range(self.strategy.patience):
            candidate = self.strategy.ask()
            if candidate is None or isinstance(candidate, Signal):
                return candidate
            self.asked += 1
            if proposal := self._new(candidate):
                return proposal
        return next(self._others, EXHAUSTED)

    def _new(self, candidate: Candidate | RelaxedCandidate) -> Proposal | None:
        """The candidate as a proposal; one that is known, or cannot work, is answered here and now."""
        if isinstance(candidate, RelaxedCandidate):
            self._relaxed += 1
            key = f"relaxed {self._relaxed}"
            self._waiting[key] = [candidate]
            return Proposal(key, candidate)
        reason = self.judge(candidate.expression)
        if reason is not None:
            self.filtered += 1
            self.strategy.tell(candidate, TrialResult(TrialState.FAIL, reason=reason))
            return None
        key = self.index.add(candidate.expression)
        if key not in self._results and key not in self._waiting:
            self._waiting[key] = [candidate]
            return Proposal(key, candidate)
        self.duplicates += 1
        if key in self._results:
            self.strategy.tell(candidate, self._results[key])
        else:
            self._waiting[key].append(candidate)
        return None

    @cached_property
    def _others(self) -> Iterator[Proposal]:
        return self._other_functions()

    def _other_functions(self) -> Iterator[Proposal]:
        """New functions that no strategy has proposed: random ones, then, where that is possible, all that are left."""
        space, rng = self.strategy.space, np.random.default_rng(0)
        while proposal := self._first_new(space.sample(rng) for _ in range(_DRAWS)):
            yield proposal
        if space.size <= LIMIT:
            left = space.enumerate()
            while proposal := self._first_new(left):
                yield proposal

    def _first_new(self, expressions: Iterable[Expression]) -> Proposal | None:
        for expression in expressions:
            if self.judge(expression) is None:
                key = self.index.add(expression)
                if key not in self._results and key not in self._waiting:
                    self._waiting[key] = [Candidate(expression)]
                    return Proposal(key, Candidate(expression))
        return None

    def withdraw(self, proposal: Proposal) -> None:
        """A proposal that is not going to be launched now; it comes again as one of the first."""
        self._waiting.pop(proposal.key, None)
        if isinstance(proposal.candidate, Candidate):
            self.first.append(proposal.candidate.expression)

    def adopt(self, expression: Expression) -> str:
        """The key of a function that is trained without having been proposed (a baseline, or an older study's)."""
        return self.index.add(expression)

    def expect(self, expression: Expression) -> str:
        """As ``adopt``, and its result will be told to the strategy, which never asked for it."""
        key = self.index.add(expression)
        if key not in self._results:
            self._waiting.setdefault(key, []).append(Candidate(expression))
        return key

    def settle(self, key: str, result: TrialResult) -> None:
        """The outcome of a proposed function, for everyone who asked for it."""
        self._results[key] = result
        for candidate in self._waiting.pop(key, ()):
            self.strategy.tell(candidate, result)
