"""What ``nas doctor`` finds on machines that run trials, by Ray; ``nas.this_machine`` looks without it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from nas.cluster.environment import settle

if TYPE_CHECKING:
    from nas.cluster.preflight import Machine
    from nas.config import ExperimentConfig


def examination(experiment: ExperimentConfig | None, address: str | None) -> tuple[list[Machine], list[str]]:
    """This machine and those of a cluster, and what is in the way of a run.

    Args:
        experiment: to rehearse, or None.
        address: of a cluster; None for a Ray of our own on this machine.

    Raises:
        AddressError, WorkersError: no cluster answers, or lets us in.
    """
    from nas.cluster.address import check_reachable

    if address is not None:
        check_reachable(address)
    settle(address)
    from nas.cluster.preflight import faults
    from nas.cluster.run import examine_all

    machines = examine_all(experiment, address)
    return machines, faults(machines)


def machines_table(machines: list[Machine]) -> Table:
    """A row each."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("machine", "cores", "GPUs", "memory", "/dev/shm", "python", "torch", "ray", "nas", "processor"):
        table.add_column(name, justify="right" if name in ("cores", "GPUs", "memory", "/dev/shm") else "left")
    for machine in machines:
        versions = [machine.versions.get(name, "?") for name in ("python", "torch", "ray", "code")]
        table.add_row(
            machine.address,
            f"{machine.cores:g}",
            f"{machine.gpus:g}",
            _size(machine.memory),
            _size(machine.shared_memory),
            *versions,
            machine.processor,
        )
    return table


def _size(number: float | None) -> str:
    return "" if number is None else f"{number / 1e9:.1f} GB"
