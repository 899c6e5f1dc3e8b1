"""Signs of life of the workers, in the cluster's own key-value store: it outlives them, and any machine reaches it."""

from __future__ import annotations

import time
from dataclasses import dataclass

from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_get, _internal_kv_put

from trainers.trial import Trial


@dataclass(frozen=True)
class LastWords:
    """Why a worker ended itself over a trial: what it said, or its silence."""

    signs: Signs
    hang_seconds: float | None

    def __call__(self, trial: Trial, started: float) -> str | None:
        words = self.signs.words(trial.id)
        if words is not None or self.hang_seconds is None:
            return words
        silence = time.time() - max(started, self.signs.last_beat(trial.id))
        if silence < self.hang_seconds:
            return None
        return f"hung in native code: no sign of life for {silence:.0f} s (ray.hang_seconds={self.hang_seconds:g})"


@dataclass(frozen=True)
class Signs:
    """Those of one run.

    Attributes:
        run: unique among the runs of a cluster.
    """

    run: str

    def say(self, trial: int, words: str) -> None:
        """Why the process that runs a trial is about to end itself."""
        _internal_kv_put(f"{self.run}/words/{trial}", words)

    def words(self, trial: int) -> str | None:
        """What was said, once."""
        key = f"{self.run}/words/{trial}"
        said = _internal_kv_get(key)
        if said is None:
            return None
        _internal_kv_del(key)
        return said.decode()

    def beat(self, trial: int) -> None:
        """The process that runs a trial is alive."""
        _internal_kv_put(f"{self.run}/beat/{trial}", str(time.time()))

    def last_beat(self, trial: int) -> float:
        """When, in seconds since the epoch; 0 if never."""
        said = _internal_kv_get(f"{self.run}/beat/{trial}")
        return 0.0 if said is None else float(said)

    def forget(self) -> None:
        """Remove all of the run."""
        _internal_kv_del(f"{self.run}/", del_by_prefix=True)
