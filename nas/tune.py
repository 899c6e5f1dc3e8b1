"""Runs a search on Ray Tune: the only file that imports Ray.

Tune asks our searcher for trials and starts them in worker processes that are kept from trial to trial, so that a
trial costs its training and not an import of torch. What Tune itself would store is disposable: it goes to a temporary
folder, because the study's own store is what a run resumes from.

A Ray that is started here listens on the loopback interface only, asks for a token made for this run, and ends with it.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

_ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # despite its name: "no cluster", every socket on 127.0.0.1
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),  # or Ray writes one into the home directory
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "PYTHONWARNINGS": "ignore",
}
os.environ.update(_ENVIRONMENT)

import ray  # noqa: E402  (reads the environment when imported)
from ray import tune  # noqa: E402

from nas.strategies import Signal  # noqa: E402
from trainers.run import run_trial  # noqa: E402
from trainers.trial import Trial, TrialResult, TrialState  # noqa: E402

if TYPE_CHECKING:  # workers import this file, and need no search
    from nas.search import Search

_OBJECT_STORE_BYTES = 100_000_000  # trials are a few kilobytes; the default is a third of the memory
_LOST_AT_START = 4  # so many workers lost, and none that ever reported: it is not the candidates
_TEMP_PREFIX = "nas-ray-"


class WorkersError(ValueError):
    """Workers that do not start: the installation's fault, not a candidate's."""


def train(config: dict[str, str]) -> None:
    """What a worker runs: a trial as JSON in, its result as JSON out."""
    import torch

    torch.set_num_threads(1)

    def report(result: TrialResult) -> bool:
        tune.report({"result": result.to_json()})  # does not return if the driver stops the trial here
        return False

    result = run_trial(Trial.from_json(config["trial"]), report)
    tune.report({"result": result.to_json(), "done": True})


def run_tune(search: Search, workers: int, gpus: int, on_change: Callable[[], None]) -> None:
    """Run all trials of a search, ``workers`` at a time, one core each; they share the GPUs evenly, if there are any.

    Returns early after Ctrl-C (``search.done`` tells).
    """
    # Tune's default is one trial that waits for its worker. With trials shorter than a worker's start, the worker that
    # is there takes the waiting trial, the new one is given up, and it goes on with one worker for ever.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(workers)
    with _local_ray(workers, gpus) as folder:
        bridge = _Bridge(search, workers, on_change)
        tuner = tune.Tuner(
            tune.with_resources(train, {"cpu": 1, "gpu": gpu_share(workers, gpus)}),
            tune_config=tune.TuneConfig(
                search_alg=bridge.searcher,
                num_samples=-1,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                storage_path=str(folder / "tune"),
                verbose=0,
                stop=_Stop(bridge),
                callbacks=[_Watch(bridge)],
                failure_config=tune.FailureConfig(max_failures=0),
            ),
        )
        tuner.fit()
        if bridge.broken:
            raise WorkersError(
                f"no worker process could run a trial ({bridge.broken}); nothing was recorded as failed. Try a search "
                f"with executor=inline, which shows the reason; then: nas resume {search.store.path.parent}"
            )


def gpu_share(workers: int, gpus: int) -> float:
    """The part of a GPU that each of so many workers gets, such that all of them run."""
    return 1 / math.ceil(workers / gpus) if gpus else 0.0


@contextlib.contextmanager
def _local_ray(workers: int, gpus: int) -> Iterator[Path]:
    """A Ray of our own with that many cores, and a temporary folder that vanishes with it."""
    _remove_leftovers()
    folder = Path(tempfile.mkdtemp(prefix=f"{_TEMP_PREFIX}{os.getpid()}-"))
    try:
        with _importable_from(folder):
            ray.init(
                address="local",
                num_cpus=workers,
                num_gpus=gpus,
                include_dashboard=False,
                logging_level="ERROR",
                log_to_driver=False,
                object_store_memory=_OBJECT_STORE_BYTES,
                _temp_dir=str(folder),
            )
        for name in ("ray", "ray.tune"):  # after init, which sets levels itself
            logging.getLogger(name).setLevel(logging.CRITICAL)
        yield folder
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _importable_from(folder: Path) -> Iterator[None]:
    """Ray puts the driver's working directory first on its workers' path, where a user's ``analysis/`` would hide ours.

    So it is started from an empty folder, and workers find the project where this process did.
    """
    root = str(Path(__file__).resolve().parent.parent)
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = root if before is None else f"{root}{os.pathsep}{before}"
    try:
        with contextlib.chdir(folder):
            yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def _remove_leftovers() -> None:
    """Remove temporary folders of drivers that were killed and could not do it themselves."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_TEMP_PREFIX}*"):
        pid = folder.name.removeprefix(_TEMP_PREFIX).split("-")[0]
        if pid.isdigit() and not _is_alive(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class _Bridge:
    """Translates between Tune's trial ids and ours."""

    def __init__(self, search: Search, workers: int, on_change: Callable[[], None]) -> None:
        self.search = search
        self.workers = workers
        self.on_change = on_change
        self.running: dict[str, Trial] = {}
        self.last: dict[str, TrialResult] = {}
        self.stopped: set[str] = set()
        self.lost: list[tuple[Trial, TrialResult]] = []  # workers that died before any trial here has reported
        self.reported = False
        self.broken: str | None = None  # why no worker works
        self.searcher = _Searcher(self)

    def suggest(self, tune_id: str) -> dict[str, str] | str | None:
        if self.broken:
            return None if self.running else tune.search.Searcher.FINISHED
        if len(self.running) >= self.workers:
            return None
        trial = self.search.next()
        if trial is None and not self.running:  # what it waits for are the lost ones
            self._settle_lost()
            trial = self.search.next()
        if isinstance(trial, Signal):
            return None if self.running else tune.search.Searcher.FINISHED
        if trial is None:
            return None
        self.running[tune_id] = trial
        self.on_change()
        return {"trial": trial.to_json()}

    def take(self, tune_id: str, metrics: dict[str, Any]) -> bool:
        """A report; answers whether to stop the trial."""
        result = TrialResult.from_json(metrics["result"])
        self.last[tune_id] = result
        self.reported = True
        if result.state != TrialState.RUNNING:
            return True
        if self.search.report(self.running[tune_id], result):
            self.stopped.add(tune_id)
            return True
        return False

    def complete(self, tune_id: str, error: str | None) -> None:
        trial = self.running.pop(tune_id, None)
        last = self.last.pop(tune_id, TrialResult(TrialState.RUNNING))
        if trial is None:
            return
        if tune_id in self.stopped:
            self.stopped.discard(tune_id)
            last = _with_state(last, TrialState.PRUNED, None)
        elif last.state == TrialState.RUNNING:
            last = _with_state(last, TrialState.FAIL, error or "the worker process ended before the training did")
            if not self.reported:  # a trial's fault, or does no worker work at all? The next ones will tell.
                self.lost.append((trial, last))
                if len(self.lost) >= _LOST_AT_START:
                    self.broken = last.reason
                return
        self._settle_lost()
        self.search.finish(trial, last)
        self.on_change()

    def _settle_lost(self) -> None:
        for trial, result in self.lost:
            self.search.finish(trial, result)
        self.lost.clear()


def _with_state(result: TrialResult, state: TrialState, reason: str | None) -> TrialResult:
    from dataclasses import replace

    return replace(result, state=state, reason=reason)


class _Searcher(tune.search.Searcher):
    """Tune's view of the search. Its own saved state is empty: the study store is what counts."""

    def __init__(self, bridge: _Bridge) -> None:
        super().__init__(metric="result", mode="max")
        self._bridge = bridge

    def suggest(self, trial_id: str) -> Any:
        return self._bridge.suggest(trial_id)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        self._bridge.complete(trial_id, None)

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

    def __init__(self, bridge: _Bridge) -> None:
        self._bridge = bridge

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return self._bridge.take(trial_id, result)

    def stop_all(self) -> bool:
        return False

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Watch(tune.Callback):
    """Learns why a trial was lost, and keeps the live view moving."""

    def __init__(self, bridge: _Bridge) -> None:
        self._bridge = bridge

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        error = trial.get_error()
        self._bridge.complete(trial.trial_id, f"worker lost: {type(error).__name__}" if error else None)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._bridge.on_change()

    def __getstate__(self) -> dict[str, Any]:
        return {}
