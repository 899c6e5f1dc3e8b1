"""How many trials run at a time, and what each of them may take of its machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from nas.cluster.session import Node, WorkersError

if TYPE_CHECKING:  # workers import this file, and need no configuration
    from nas.sections import RayConfig

_MEMORY_PART = 0.9  # of a machine's memory, for all trials together


@dataclass(frozen=True)
class Share:
    """What one trial may take.

    Attributes:
        cpus, gpus: of its machine.
        workers: trials at a time in the whole run.
        hang_seconds: longest time without a training step; None for no limit.
        memory_gb: of its process; ``auto`` for an even share of its machine's, None for no limit.
    """

    cpus: float
    gpus: float
    workers: int
    hang_seconds: float | None = None
    memory_gb: float | Literal["auto"] | None = None

    def memory_on(self, node: Node) -> int | None:
        """Bytes that a trial's process may have on a machine; None for no limit."""
        if self.memory_gb == "auto":
            trials = min(self.workers, max(1, node.slots(self.cpus, self.gpus)))
            return int(_MEMORY_PART * node.memory / trials)
        return None if self.memory_gb is None else int(1e9 * self.memory_gb)


def fair_share(
    config: RayConfig, workers: int | Literal["auto"], nodes: Sequence[Node], trials_per_gpu: int, use_gpus: bool
) -> Share:
    """What a trial may take on these machines.

    Args:
        config: what is configured.
        workers: trials at a time; ``auto`` for as many as fit.
        nodes: the machines that are up.
        trials_per_gpu: so many fit into a GPU's memory.
        use_gpus: whether trials may run on GPUs at all.

    Raises:
        WorkersError: no machine has what a trial is to take.
    """
    gpus = sum(node.gpus for node in nodes) if use_gpus else 0.0
    part = config.gpus_per_trial
    if part == "auto":
        part = _gpu_part(workers, int(gpus), trials_per_gpu)
    slots = sum(node.slots(config.cpus_per_trial, part) for node in nodes)
    if not slots:
        largest = ", ".join(f"{node.address}: {node.cpus:g} cores and {node.gpus:g} GPUs" for node in nodes) or "none"
        raise WorkersError(
            f"a trial takes {config.cpus_per_trial:g} cores and {part:g} GPUs, and no machine has them ({largest}); "
            "lower ray.cpus_per_trial or ray.gpus_per_trial"
        )
    number = slots if workers == "auto" else workers
    return Share(config.cpus_per_trial, part, number, config.hang_seconds, config.max_memory_gb)


def _gpu_part(workers: int | Literal["auto"], gpus: int, trials_per_gpu: int) -> float:
    """Of a GPU, for one trial: such that all the workers wanted run, else as many as fit its memory."""
    if not gpus:
        return 0.0
    at_a_time = trials_per_gpu if workers == "auto" else -(-workers // gpus)
    return 1 / max(1, at_a_time)
