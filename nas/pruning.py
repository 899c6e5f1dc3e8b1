"""Asynchronous successive halving, the stopping variant of Li et al. 2020 (arXiv 1810.05934), section 3.2.

A trial that reaches a rung goes on if it is among the best 1/reduction_factor of all that reached that rung so far. It
waits for nobody: the first ones always go on. Ray's scheduler of this name forgets its rungs when a run is restored;
this one is rebuilt from the stored learning curves, and serves the in-process executor too.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from trainers.trial import METRICS


@dataclass
class SuccessiveHalving:
    """Stop rule over reported metrics."""

    metric: str
    rungs: tuple[int, ...]
    reduction_factor: float
    _values: dict[int, dict[int, float]] = field(default_factory=lambda: defaultdict(dict))

    def should_stop(self, trial: int, metrics: dict[str, float]) -> bool:
        """Record a trial's report and decide; reports at other epochs than the rungs are never stopped.

        A trial that was started again reports again, and counts once.
        """
        rung = int(metrics["epoch"])
        if rung not in self.rungs:
            return False
        value = metrics[self.metric] if METRICS[self.metric] == "max" else -metrics[self.metric]
        recorded = self._values[rung]
        recorded[trial] = value
        better = sum(other > value for other in recorded.values())
        return better >= max(1.0, len(recorded) / self.reduction_factor)
