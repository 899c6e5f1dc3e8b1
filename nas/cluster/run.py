"""Runs a search on Ray, from joining it to leaving it."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from nas.cluster.bridge import Bridge, Work
from nas.cluster.far import run_far_away
from nas.cluster.preflight import Machine, examine, refuse, this_machine
from nas.cluster.resources import Share, fair_share
from nas.cluster.session import WorkersError, connected, is_client, nodes
from nas.cluster.signs import LastWords, Signs
from nas.cluster.tune import run_trials
from nas.config import ExperimentConfig
from nas.sections import RayConfig
from trainers.environment import available_cores

_LOOK_SECONDS = 5.0


def run_on_ray(
    work: Work, configs: Sequence[ExperimentConfig], on_change: Callable[[], None], score_on: str = "val"
) -> None:
    """Run all trials of a search, or of something like it.

    Args:
        work: where trials come from.
        configs: of the trials; the first one says where they run.
        on_change: called when there is something new to be seen.
        score_on: as in the trials.

    Raises:
        WorkersError: no cluster answers, its machines cannot run the trials, or no worker can.
    """
    config = configs[0]
    with connected(config.ray.address, _cores(config), _gpus(config)) as folder:
        found, use_gpus = nodes(), config.trial.device != "cpu"
        trials_per_gpu = 1
        wants_memory = config.ray.gpus_per_trial == "auto" and config.workers == "auto" and any(n.gpus for n in found)
        if config.ray.address is not None or (use_gpus and wants_memory):
            machines = [machine for each in configs for machine in examine(found, each, use_gpus, score_on=score_on)]
            refuse([this_machine(), *machines])
            trials_per_gpu = min(machine.trials_per_gpu for machine in machines)
        share = fair_share(config.ray, config.workers, found, trials_per_gpu, use_gpus)
        run_work(work, share, config.ray, folder, on_change)


def run_work(work: Work, share: Share, config: RayConfig, folder: Path, on_change: Callable[[], None]) -> None:
    """Run all trials of something like a search on the Ray that this process is connected to.

    Raises:
        WorkersError: no worker can run any trial, or all machines are gone.
    """
    signs = Signs(f"nas-{uuid.uuid4().hex}")
    words = LastWords(signs, share.hang_seconds)
    bridge = Bridge(work, share.workers, config.retries, words, _and_look_around(on_change))
    try:
        if is_client():
            run_far_away(bridge, signs.run, share)
        else:
            run_trials(bridge, signs.run, share, folder)
    finally:
        signs.forget()
    if bridge.error:
        raise bridge.error
    if bridge.broken:
        raise WorkersError(
            f"no worker process could run a trial ({bridge.broken}); nothing was recorded as failed. Where the reason "
            "is not clear, a search with executor=inline shows it; then go on with: nas resume"
        )


def _and_look_around(on_change: Callable[[], None]) -> Callable[[], None]:
    """Whether there is any machine left, now and then: Tune would wait for one for ever."""
    looked = time.monotonic()

    def look() -> None:
        nonlocal looked
        on_change()
        if time.monotonic() - looked > _LOOK_SECONDS:
            looked = time.monotonic()
            if not nodes():
                raise WorkersError(
                    "all machines of the cluster are gone; what finished is kept. When they are back: nas resume"
                )

    return look


def examine_all(config: ExperimentConfig | None, address: str | None) -> list[Machine]:
    """This machine, and those of a cluster that trials may run on; without one, a Ray of our own is tried.

    Args:
        config: to rehearse on each, or None.
        address: of the cluster.

    Raises:
        WorkersError: no cluster answers, or lets us in.
    """
    gpus = torch.cuda.device_count()
    with connected(address, available_cores(), gpus):
        machines = examine(nodes(), config, use_gpus=config is None or config.trial.device != "cpu")
    return machines if address is None else [this_machine(), *machines]


def faster_precision_there(config: ExperimentConfig) -> str:
    """Which precision is faster on the machines of a cluster: the answer of one that has GPUs, if any has.

    Raises:
        WorkersError: as for ``run_on_ray``.
    """
    with connected(config.ray.address, 0, 0):
        machines = examine(nodes(), config, config.trial.device != "cpu", measure_precision=True)
    refuse(machines)
    return next((m for m in machines if m.has_gpu), machines[0]).precision


def _gpus(config: ExperimentConfig) -> int:
    """Of this machine, for a Ray of our own."""
    return 0 if config.trial.device == "cpu" else torch.cuda.device_count()


def _cores(config: ExperimentConfig) -> int:
    """Of this machine, for a Ray of our own: more than it has, if so many workers are wanted."""
    if config.workers == "auto":
        return available_cores()
    return max(1, math.ceil(config.workers * config.ray.cpus_per_trial))
