"""What Ray Tune costs a trial beside its training: one worker, trials of one step each, the first few left out.

    python benchmarks/overhead.py [--trials 200] [--json]

Prints the median and mean time from one result to the next, less the time that the trial itself reports.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

from nas.cluster.environment import settle

settle(None)  # before Ray is imported

from nas.cluster.resources import Share  # noqa: E402
from nas.cluster.run import run_work  # noqa: E402
from nas.cluster.session import connected  # noqa: E402
from nas.sections import RayConfig  # noqa: E402
from nas.strategies import EXHAUSTED, Signal  # noqa: E402
from trainers.trial import Component, Recipe, Trial, TrialResult  # noqa: E402

_WARM_UP = 5


class OneStepTrials:
    """Just enough of a search for an executor: so many trials of one step, and the times at which they ended."""

    def __init__(self, trials: int) -> None:
        self.left = trials
        self.ended: list[float] = []
        self.seconds: list[float] = []

    def next(self) -> Trial | Signal:
        if self.left == 0:
            return EXHAUSTED
        self.left -= 1
        return Trial(
            id=self.left,
            stage="search",
            expression="max(x, 0)",
            seed=0,
            model=Component("resnet8", {"width": 1}),
            data=Component("digits"),
            recipe=Recipe(),
            budget_epochs=1,
            max_steps=1,
        )

    def again(self, trial: Trial) -> None:
        raise AssertionError("a worker was lost")

    def report(self, trial: Trial, result: TrialResult) -> bool:
        return False

    def finish(self, trial: Trial, result: TrialResult) -> None:
        assert result.state == "COMPLETE", result.reason
        self.ended.append(time.perf_counter())
        self.seconds.append(result.seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    trials = OneStepTrials(arguments.trials + _WARM_UP)
    start = time.perf_counter()
    with connected(None, 1, 0) as folder:
        run_work(trials, Share(1, 0, 1, RayConfig().hang_seconds, "auto"), RayConfig(), folder, lambda: None)
    first = trials.ended[0] - start
    gaps = [b - a for a, b in zip(trials.ended, trials.ended[1:], strict=False)][_WARM_UP - 1 :]
    overhead = [gap - own for gap, own in zip(gaps, trials.seconds[_WARM_UP:], strict=True)]
    figures = {
        "trials": len(overhead),
        "overhead_median_ms": round(1000 * statistics.median(overhead), 1),
        "overhead_mean_ms": round(1000 * statistics.mean(overhead), 1),
        "until_first_result_s": round(first, 1),
    }
    if arguments.json:
        print(json.dumps(figures))
    else:
        print("\n".join(f"{name:<22} {value}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
