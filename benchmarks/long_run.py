"""A long search through the real Ray path: so many trials of one step, one after the other results told and stored.

    python benchmarks/long_run.py [--trials 10000] [--every 1000] [--json]

The strategy is `random` over the space `tree`, which has functions enough; the model is as small as models get. Prints
the driver's memory and open files, the size of what lies in its temporary folder and in the run's directory, and the
mean time of an ask, a tell and what is stored, for every so many trials.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from nas.cluster.environment import settle

settle(None)  # before Ray is imported

from analysis.store import Store  # noqa: E402
from nas.cluster.run import run_on_ray  # noqa: E402
from nas.cluster.watch import resident_bytes  # noqa: E402
from nas.config import ExperimentConfig, restore_config  # noqa: E402
from nas.search import Search  # noqa: E402
from trainers.trial import Trial, TrialResult  # noqa: E402


def config(trials: int) -> ExperimentConfig:
    return restore_config(
        {
            "name": "long_run",
            "space": {"name": "tree"},
            "strategy": {"name": "random", "uniform": "spellings"},
            "warm_start": {},
            "model": {"name": "resnet8", "width": 1},
            "data": {"name": "digits", "val_fraction": 0.9},
            "recipe": {"batch_size": 64},
            "trial": {"epochs": 1, "max_steps": 1, "precision": "fp32", "param_shape": "scalar"},
            "search": {"trials": trials, "screen": False},
            "retrain": {"top": 0, "seeds": 1},
            "baselines": [],
        }
    )


class Measured(Search):
    """A search that times what it does for a trial, and looks at the process now and then."""

    def __init__(self, config: ExperimentConfig, store: Store, every: int) -> None:
        super().__init__(config, store)
        self.every, self.spent, self.done_so_far = every, 0.0, 0
        self.begin = time.monotonic()
        self.rows: list[dict[str, Any]] = []

    def next(self) -> Any:
        return self._timed(super().next)

    def finish(self, trial: Trial, result: TrialResult) -> None:
        self._timed(super().finish, trial, result)
        self.done_so_far += 1
        if self.done_so_far % self.every == 0:
            self.rows.append(self._look())
            self.spent, self.begin = 0.0, time.monotonic()
            print(json.dumps(self.rows[-1]), file=sys.stderr, flush=True)

    def _timed(self, function: Any, *arguments: Any) -> Any:
        begin = time.perf_counter()
        try:
            return function(*arguments)
        finally:
            self.spent += time.perf_counter() - begin

    def _look(self) -> dict[str, Any]:
        return {
            "trials": self.done_so_far,
            "driver_mb": round(resident_bytes() / 1e6),
            "open_files": len(os.listdir("/proc/self/fd")),
            "temporary_mb": round(_size_of(tempfile.gettempdir(), f"nas-ray-{os.getpid()}-*") / 1e6, 1),
            "run_mb": round(_size_of(str(self.store.path.parent), "") / 1e6, 1),
            "ask_tell_store_ms": round(1000 * self.spent / self.every, 2),
            "trial_ms": round(1000 * (time.monotonic() - self.begin) / self.every, 1),
        }


def _size_of(folder: str, pattern: str) -> int:
    roots = list(Path(folder).glob(pattern)) if pattern else [Path(folder)]
    total = 0
    for root in roots:
        for file in root.rglob("*"):
            try:
                total += file.stat().st_blocks * 512 if file.is_file() and not file.is_symlink() else 0
            except OSError:  # gone meanwhile
                continue
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--every", type=int, default=1_000)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nas-long-run-") as folder:
        experiment = config(arguments.trials)
        with Store.create(Path(folder), experiment.model_dump(mode="json")) as store:
            search = Measured(experiment, store, arguments.every)
            run_on_ray(search, [experiment], lambda: None)
            assert search.done, "interrupted"
    if arguments.json:
        print(json.dumps(search.rows))
        return
    names = list(search.rows[0])
    print("  ".join(names))
    for row in search.rows:
        print("  ".join(f"{row[name]:>{len(name)}}" for name in names))


if __name__ == "__main__":
    main()
