"""Looks at every machine of a cluster before a run starts: what would otherwise go wrong with the first trials.

Each machine answers with its versions, and does what a trial does: it loads the data and builds the model.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import ray
import torch
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from nas.cluster.session import Node, WorkersError
from nas.config import ExperimentConfig, restore_config
from trainers.environment import environment
from trainers.run import pick_device

_SECONDS = 300  # for packages to arrive and data to be loaded
_SHARED_MEMORY = 64 << 20


@dataclass(frozen=True)
class Machine:
    """What a machine says about itself.

    Attributes:
        address: of its node.
        cores, gpus, memory: for trials; memory in bytes.
        versions: of Python, packages and our code.
        processor: its name, or its GPU's.
        shared_memory: bytes free in /dev/shm; None where there is none.
        has_gpu: whether trials may use one there.
        trials_per_gpu: so many fit into its memory.
        precision: which one is faster there, if that was asked.
        faults: why trials would fail there.
    """

    address: str
    cores: float = 0.0
    gpus: float = 0.0
    memory: float | None = None
    versions: dict[str, str] = field(default_factory=dict)
    processor: str = ""
    shared_memory: int | None = None
    has_gpu: bool = False
    trials_per_gpu: int = 1
    precision: str = ""
    faults: list[str] = field(default_factory=list)


def examine(
    nodes: Sequence[Node],
    config: ExperimentConfig | None,
    use_gpus: bool,
    *,
    score_on: str = "val",
    measure_precision: bool = False,
) -> list[Machine]:
    """Ask every machine that has cores for trials."""
    values = None if config is None else config.model_dump(mode="json")
    asked = {}
    for node in (node for node in nodes if node.cpus):
        gpus = 1 if node.gpus and use_gpus else 0
        place = NodeAffinitySchedulingStrategy(node.id, soft=False)
        task = ray.remote(_look).options(num_cpus=0, num_gpus=gpus, scheduling_strategy=place, max_retries=0)
        asked[task.remote(values, score_on, measure_precision)] = node
    done, late = ray.wait(list(asked), num_returns=len(asked), timeout=_SECONDS)
    machines = [_answer(asked[reference], reference) for reference in done]
    machines += [Machine(asked[reference].address, faults=[f"no answer within {_SECONDS} s"]) for reference in late]
    return sorted(machines, key=lambda machine: machine.address)


def _answer(node: Node, reference: Any) -> Machine:
    try:
        answer = Machine(node.address, **ray.get(reference))
    except Exception as error:  # of any kind: the machine's answer is that it cannot
        answer = Machine(node.address, faults=[" ".join(str(error).split())[-300:]])
    return replace(answer, cores=node.cpus, gpus=node.gpus, memory=node.memory)


def this_machine(has_gpu: bool = False) -> Machine:
    """Where this process runs. ``has_gpu``: whether it may use a GPU."""
    about = environment(pick_device("auto") if has_gpu else torch.device("cpu"), "fp32", "none")
    return Machine(
        "this machine",
        versions={"ray": ray.__version__} | {name: about[name] for name in ("python", "torch", "code")},
        processor=about["processor"],
        has_gpu=has_gpu,
        shared_memory=_free("/dev/shm"),
    )


def _look(values: dict[str, Any] | None, score_on: str, measure_precision: bool) -> dict[str, Any]:
    """Runs on the machine."""
    has_gpu = bool(ray.get_runtime_context().get_accelerator_ids().get("GPU"))
    found = asdict(this_machine(has_gpu))
    del found["address"], found["cores"], found["gpus"], found["memory"]
    if values is not None:
        try:
            found |= _rehearse(restore_config(values), has_gpu, score_on, measure_precision)
        except ValueError as error:
            found["faults"] = str(error).splitlines()
    return found


def _rehearse(config: ExperimentConfig, has_gpu: bool, score_on: str, measure_precision: bool) -> dict[str, Any]:
    """What a trial does, and on a GPU how much memory it takes."""
    from nas.runs import check_components, example_trial, faster_precision_here
    from trainers.memory import trials_that_fit

    if not has_gpu:  # a process without a GPU of its own may see one all the same
        config = config.model_copy(update={"trial": config.trial.model_copy(update={"device": "cpu"})})
    check_components(config, score_on)
    found: dict[str, Any] = {}
    if measure_precision:
        found["precision"] = faster_precision_here(config)
    elif has_gpu:
        found["trials_per_gpu"] = trials_that_fit(example_trial(config))
    return found


def _free(folder: str) -> int | None:
    return shutil.disk_usage(folder).free if Path(folder).is_dir() else None


def faults(machines: Sequence[Machine]) -> list[str]:
    """Why a run should not start: each machine's own faults, and where they differ."""
    found = list(dict.fromkeys(f"{machine.address}: {fault}" for machine in machines for fault in machine.faults))
    found += [fault for name in ("python", "ray", "torch", "code") if (fault := _difference(machines, name))]
    for machine in machines:
        if machine.shared_memory is not None and machine.shared_memory < _SHARED_MEMORY:
            found.append(
                f"{machine.address}: {machine.shared_memory >> 20} MB are free in /dev/shm, and Ray wants "
                f"{_SHARED_MEMORY >> 20}; in Docker: --shm-size=1g"
            )
    return found


def _difference(machines: Sequence[Machine], name: str) -> str | None:
    where: dict[str, set[str]] = {}
    for machine in machines:
        version = machine.versions.get(name)
        if version is not None:
            version = version.rpartition(".")[0] if name == "python" else version  # 3.11.2 and 3.11.9 get along
            where.setdefault(version, set()).add(machine.address)
    if len(where) < 2:
        return None
    told = "; ".join(f"{version} on {', '.join(sorted(addresses))}" for version, addresses in where.items())
    what = "nas itself" if name == "code" else name
    return f"the machines differ in {what}: {told}; install the same on all of them"


def refuse(machines: Sequence[Machine]) -> None:
    """Raise if a run should not start.

    Raises:
        WorkersError: with all faults.
    """
    found = faults(machines)
    if found:
        raise WorkersError("\n".join(found))
