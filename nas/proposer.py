"""Between a strategy and the trials: a function is trained once however often and however it is spelled, and one that
cannot work (not finite, constant, affine) is never trained."""

from __future__ import annotations

from dataclasses import dataclass, field

from nas.strategies import EXHAUSTED, Candidate, Signal, Strategy
from search_spaces.equivalence import EquivalenceIndex, rejection
from search_spaces.expression import Expression
from trainers.trial import TrialResult, TrialState

_MAX_ASKS = 2_000
"""A strategy that proposes nothing new in so many asks has nothing new to propose."""


@dataclass(frozen=True)
class Proposal:
    """A function to train; ``key`` is equal for equal functions."""

    key: str
    candidate: Candidate


@dataclass
class Proposer:
    """Asks a strategy until it proposes something new, and tells it every outcome."""

    strategy: Strategy
    index: EquivalenceIndex = field(default_factory=EquivalenceIndex)
    asked: int = 0
    duplicates: int = 0
    filtered: int = 0
    _results: dict[str, TrialResult] = field(default_factory=dict)
    _waiting: dict[str, list[Candidate]] = field(default_factory=dict)

    def propose(self) -> Proposal | Signal | None:
        """A function not seen before; None to ask again when a running trial has ended."""
        for _ in range(_MAX_ASKS):
            candidate = self.strategy.ask()
            if candidate is None or isinstance(candidate, Signal):
                return candidate
            self.asked += 1
            reason = rejection(candidate.expression)
            if reason is not None:
                self.filtered += 1
                self.strategy.tell(candidate, TrialResult(TrialState.FAIL, reason=reason))
                continue
            key = self.index.add(candidate.expression)
            if key in self._results:
                self.duplicates += 1
                self.strategy.tell(candidate, self._results[key])
            elif key in self._waiting:
                self.duplicates += 1
                self._waiting[key].append(candidate)
            else:
                self._waiting[key] = [candidate]
                return Proposal(key, candidate)
        return None if self._waiting else EXHAUSTED

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
