"""How many trials run at a time, and on what."""

from __future__ import annotations

import pytest

from nas.cluster.resources import fair_share
from nas.cluster.session import Node, WorkersError
from nas.sections import RayConfig


def node(cpus: float, gpus: float = 0, memory: float = 100e9) -> Node:
    return Node("id", "10.0.0.1", cpus, gpus, memory)


@pytest.mark.parametrize(
    ("workers", "gpus", "part"),
    [(4, 0, 0), (1, 1, 1), (4, 1, 0.25), (3, 2, 0.5), (2, 2, 1), (8, 3, 1 / 3)],
)
def test_all_workers_find_their_part_of_a_gpu(workers, gpus, part):
    share = fair_share(RayConfig(), workers, [node(16, gpus)], 1, True)
    assert share.gpus == pytest.approx(part)
    assert share.workers == workers
    assert not gpus or node(16, gpus).slots(1, share.gpus) >= workers  # a trial's part lies on one GPU


def test_as_many_as_fit_the_memory_of_the_gpus_and_the_cores():
    machines = [node(8, 2), node(8, 1), node(2, 1)]
    share = fair_share(RayConfig(), "auto", machines, 3, True)
    assert share.gpus == pytest.approx(1 / 3)
    assert share.workers == 6 + 3 + 2  # the last machine has two cores


def test_cores_where_there_are_no_gpus_or_none_are_wanted():
    assert fair_share(RayConfig(cpus_per_trial=2), "auto", [node(8), node(3)], 1, True).workers == 4 + 1
    share = fair_share(RayConfig(), "auto", [node(8, 4)], 5, False)
    assert (share.workers, share.gpus) == (8, 0)


def test_what_no_machine_has_is_refused():
    with pytest.raises(WorkersError, match=r"takes 1 cores and 2 GPUs.*8 cores and 1 GPUs"):
        fair_share(RayConfig(gpus_per_trial=2), "auto", [node(8, 1), node(8, 1)], 1, True)
    with pytest.raises(WorkersError, match="none"):
        fair_share(RayConfig(), "auto", [], 1, True)


def test_memory_is_shared_by_the_trials_that_a_machine_runs():
    share = fair_share(RayConfig(), "auto", [node(8, memory=80e9)], 1, True)
    assert share.memory_on(node(8, memory=80e9)) == pytest.approx(0.9 * 80e9 / 8)
    few = fair_share(RayConfig(), 2, [node(8, memory=80e9)], 1, True)
    assert few.memory_on(node(8, memory=80e9)) == pytest.approx(0.9 * 80e9 / 2)
    assert fair_share(RayConfig(max_memory_gb=3), 2, [node(8)], 1, True).memory_on(node(8)) == 3_000_000_000
    assert fair_share(RayConfig(max_memory_gb=None), 2, [node(8)], 1, True).memory_on(node(8)) is None
