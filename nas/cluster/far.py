"""A search whose driver is outside of the cluster (``ray://``): Tune works only on one of its machines.

So Tune runs in an actor there, and what its callbacks ask is answered here, where the search and its store are: one
question at a time, which the driver fetches.
"""

from __future__ import annotations

import queue
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray

from nas.cluster.bridge import Bridge
from nas.cluster.resources import Share
from nas.strategies import Signal
from trainers.trial import Trial, TrialResult

_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class _Question:
    """A call of one of the Bridge's methods."""

    method: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class _Answer:
    """What it returned, and how things stand since."""

    value: Any
    over: bool
    idle: bool


def run_far_away(bridge: Bridge, run: str, share: Share) -> None:
    """Run all trials of a search, with Tune on the cluster that this process is a client of."""
    host = ray.remote(_Host).options(num_cpus=0, max_concurrency=3).remote()
    ended = host.run.remote(run, share)
    while True:
        question = ray.get(host.question.remote())
        if question is not None:
            value = getattr(bridge, question.method)(*question.arguments)
            ray.get(host.answer.remote(_Answer(value, bridge.over, bridge.idle)))
        elif ray.wait([ended], timeout=0)[0]:
            ray.get(ended)
            return
        bridge.on_change()


class _Host:
    """The actor. Its methods run in threads beside each other."""

    def __init__(self) -> None:
        self.side = _FarSide()

    def run(self, run: str, share: Share) -> None:
        from nas.cluster.tune import run_trials

        with tempfile.TemporaryDirectory(prefix="nas-ray-tune-") as folder:
            run_trials(self.side, run, share, Path(folder))

    def question(self) -> _Question | None:
        try:
            return self.side.questions.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            return None

    def answer(self, answer: _Answer) -> None:
        self.side.answers.put(answer)


@dataclass
class _FarSide:
    """The Bridge, as seen from there."""

    over: bool = False
    idle: bool = True
    questions: queue.Queue[_Question] = field(default_factory=queue.Queue)
    answers: queue.Queue[_Answer] = field(default_factory=queue.Queue)

    def suggest(self, tune_id: str) -> Trial | Signal | None:
        return self._ask("suggest", tune_id)

    def take(self, tune_id: str, result: TrialResult) -> bool:
        return bool(self._ask("take", tune_id, result))

    def complete(self, tune_id: str, error: str | None) -> None:
        self._ask("complete", tune_id, error)

    def on_change(self) -> None:
        """The driver looks by itself."""

    def _ask(self, method: str, *arguments: Any) -> Any:
        self.questions.put(_Question(method, arguments))
        answer = self.answers.get()
        self.over, self.idle = answer.over, answer.idle
        return answer.value
