"""Runs a search's trials on Ray Tune.

Tune asks our searcher for trials and starts them in worker processes that are kept from trial to trial, so that a
trial costs its training and not an import of torch. What Tune itself would store is disposable: it goes to a temporary
folder, because the study's own store is what a run resumes from. Tune keeps all trials of an experiment in memory and
goes through them at every step, so that a long search is several experiments.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import ray
import torch
from ray import tune
from ray.air.execution._internal import actor_manager

from nas.cluster.resources import Share
from nas.cluster.session import nodes
from nas.cluster.signs import Signs
from nas.cluster.watch import Limits, watched
from nas.strategies import Signal
from trainers.run import load_data, run_trial
from trainers.trial import Trial, TrialResult

_TRIALS_AN_EXPERIMENT = 1000

# A worker that Ray ends, because its machine's memory runs out, is a lost worker like others. Ray 2.60 raises another
# error for it, which Tune takes for a fault of its own and ends the run with.
actor_manager.RayActorError = (ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError)


def train(config: dict[str, Any]) -> None:
    """What a worker runs: a trial as JSON in, its result as JSON out.

    An exception here is the machine's fault, not the candidate's, whose own are results.
    """
    trial, signs, share = Trial.from_json(config["trial"]), Signs(config["run"]), Share(**config["share"])
    torch.set_num_threads(max(1, int(share.cpus)))
    if trial.device == "auto" and not share.gpus:
        trial = replace(trial, device="cpu")  # workers without a GPU of their own see all of them

    def report(result: TrialResult) -> bool:
        tune.report({"result": result.to_json()})  # does not return if the driver stops the trial here
        return False

    with watched(_limits(share), lambda words: signs.say(trial.id, words), lambda: signs.beat(trial.id)):
        load_data(trial.data.to_json(), trial.score_on)
        result = run_trial(trial, report)
    tune.report({"result": result.to_json(), "done": True})


@cache
def _limits(share: Share) -> Limits:
    """What a training may take on this machine."""
    here = ray.get_runtime_context().get_node_id()
    node = next(node for node in nodes() if node.id == here)
    return Limits(share.hang_seconds, share.memory_on(node))


class Side(Protocol):
    """What Tune's callbacks talk to: a Bridge, or one that is far away."""

    @property
    def over(self) -> bool: ...
    @property
    def idle(self) -> bool: ...
    def suggest(self, tune_id: str) -> Trial | Signal | None: ...
    def take(self, tune_id: str, result: TrialResult) -> bool: ...
    def complete(self, tune_id: str, error: str | None) -> None: ...
    def on_change(self) -> None: ...


def run_trials(side: Side, run: str, share: Share, folder: Path) -> None:
    """Run all trials that a search has, on the Ray that this process is connected to.

    Returns early after Ctrl-C.

    Args:
        side: where trials come from and results go.
        run: unique among the runs of a cluster.
        share: trials at a time, and what each may take.
        folder: for what Tune writes.
    """
    # Tune's default is one trial that waits for its worker. With trials shorter than a worker's start, the worker that
    # is there takes the waiting trial, the new one is given up, and it goes on with one worker for ever.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(share.workers)
    more = True
    while more:
        searcher = _Searcher(side, {"run": run, "share": asdict(share)})
        _experiment(searcher, side, share, folder / "tune")
        shutil.rmtree(folder / "tune", ignore_errors=True)
        more = searcher.full and side.idle and not side.over


def _experiment(searcher: _Searcher, side: Side, share: Share, folder: Path) -> None:
    watch = _Watch(side)
    tune.run(
        train,
        name="nas",
        search_alg=searcher,
        num_samples=-1,
        resources_per_trial={"cpu": share.cpus, "gpu": share.gpus},
        reuse_actors=True,
        trial_dirname_creator=lambda trial: trial.trial_id,
        storage_path=str(folder),
        verbose=0,
        stop=_Stop(side),
        callbacks=[watch],
        raise_on_failed_trial=False,
    )
    if watch.staging is not None:  # 20 MB that Ray would keep as long as it runs
        shutil.rmtree(watch.staging, ignore_errors=True)


class _Searcher(tune.search.Searcher):
    """Tune's view of the search. Its own saved state is empty: the study store is what counts."""

    def __init__(self, side: Side, common: dict[str, Any]) -> None:
        super().__init__(metric="result", mode="max")
        self._side = side
        self._common = common
        self._left = _TRIALS_AN_EXPERIMENT

    @property
    def full(self) -> bool:
        """Whether the experiment has had its trials."""
        return self._left == 0

    def suggest(self, trial_id: str) -> Any:
        trial = None if self.full else self._side.suggest(trial_id)
        if isinstance(trial, Trial):
            self._left -= 1
            return {"trial": trial.to_json(), **self._common}
        over = self.full or self._side.over or isinstance(trial, Signal)
        return tune.search.Searcher.FINISHED if over and self._side.idle else None

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        if not error:  # of an error, _Watch knows more
            self._side.complete(trial_id, None)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: see the class."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: see the class."""

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Nothing: see the class."""

    def get_state(self) -> dict[str, Any]:
        return {}

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Stop(tune.Stopper):
    """Stops a trial when the search says so, and when it has reported its final result."""

    def __init__(self, side: Side) -> None:
        self._side = side

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return self._side.take(trial_id, TrialResult.from_json(result["result"]))

    def stop_all(self) -> bool:
        return self._side.over

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Watch(tune.Callback):
    """Learns why a trial was lost, and keeps the live view moving."""

    def __init__(self, side: Side) -> None:
        self._side = side
        self.staging: Path | None = None

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.staging = Path(trial.storage.experiment_driver_staging_path).parents[1]

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        error = trial.get_error()
        self._side.complete(trial.trial_id, _described(error) if error else None)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._side.on_change()

    def __getstate__(self) -> dict[str, Any]:
        return {}


def _described(error: BaseException) -> str:
    """An error of Ray's in a line: an exception in a worker by its own message."""
    cause = error.cause if isinstance(error, ray.exceptions.RayTaskError) and error.cause is not None else error
    if isinstance(cause, ray.exceptions.OutOfMemoryError):
        return "its machine's memory was used up, and Ray ended it"
    if isinstance(cause, ray.exceptions.RayActorError):
        return type(cause).__name__
    return " ".join(f"{type(cause).__name__}: {cause}".split())[-300:]
