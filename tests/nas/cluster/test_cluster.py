"""Searches on a cluster of two real nodes."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from nas.check import check_run
from tests.processes import attempts, finish, records, start, training, wait_for
from tests.two_nodes import TwoNodes, environment, two_nodes

SMALL = ["pruning=null", "retrain={top: 1, seeds: 1}", "baselines=[ReLU]", "model.width=4", "trial.epochs=2"]


@pytest.fixture(scope="module")
def cluster():
    with two_nodes(dashboard=True) as found:
        yield found


def nas(*arguments: str, cwd: Path | None = None) -> subprocess.Popen:
    return start(*arguments, env=environment(), cwd=cwd)


def outputs(process: subprocess.Popen, code: int = 0) -> str:
    return "".join(finish(process, code))


def whole(run: Path, trials: int) -> Counter[int]:
    """Every candidate was trained once; how often each trial was started."""
    assert check_run(run)[0] == []
    rows = records(run)
    assert sum(r.trial.stage == "search" for r in rows) == trials
    assert all(r.result is not None for r in rows)
    return Counter(attempts(run).values())


@pytest.mark.slow
def test_our_packages_travel_and_trials_spread_over_both_nodes(cluster: TwoNodes, tmp_path):
    """From a folder whose packages have the names of ours, too."""
    (tmp_path / "trainers").mkdir()
    (tmp_path / "trainers" / "__init__.py").write_text("raise ImportError('not this one')")
    run = tmp_path / "study"
    script, long = str(Path(sys.executable).with_name("nas")), ["trial.epochs=6", "search.trials=8"]
    process = subprocess.Popen(
        [script, "search", "digits", *SMALL, *long, "--address", cluster.address, "--run", str(run)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        cwd=tmp_path,
    )
    wait_for(lambda: all(training(raylet) for raylet in cluster.raylets), "a trial on each node", 120)
    outputs(process)
    assert whole(run, 8) == {1: 10}
    members = psutil.Process(cluster.raylets[0]).parent().children(recursive=True)
    connections = [connection for member in members for connection in member.net_connections(kind="inet")]
    listening = {c.laddr.ip.removeprefix("::ffff:") for c in connections if c.status == psutil.CONN_LISTEN}
    assert listening == {"127.0.0.1"}


@pytest.mark.slow
def test_from_outside_by_ray_client(cluster: TwoNodes, tmp_path):
    """The driver, and with it the store, is here; Tune is there. Pruning works through the distance as well."""
    run = tmp_path / "study"
    pruned = ["trial.epochs=3", "pruning={rungs: [1], reduction_factor: 8}", "trial.precision=auto"]
    outputs(nas("search", "digits", *SMALL, *pruned, "search.trials=8", "--address", cluster.client, "--run", str(run)))
    whole(run, 8)
    states = Counter(r.result.state for r in records(run))
    assert states["PRUNED"]
    assert states["COMPLETE"]


@pytest.mark.slow
def test_a_job_is_handed_over_watched_stopped_and_resumed(cluster: TwoNodes, tmp_path):
    run, at = tmp_path / "study", ["--address", str(cluster.job_server)]
    said = outputs(nas("submit", "digits", *SMALL, "search.trials=200", "--run", str(run), *at))
    job = said.split(":")[0]
    wait_for(lambda: len(records(run)) >= 3, "trials of the job", 120)
    assert "RUNNING" in outputs(nas("status", *at))
    assert "searched" in outputs(nas("status", job, *at))
    said = outputs(nas("stop", job, *at))
    assert f"nas submit --resume {run}" in said
    assert re.search("STOPPED|FAILED|SUCCEEDED", said)
    before = {r.trial.id: r.result for r in records(run) if r.result is not None}
    job = outputs(nas("submit", "--resume", str(run), *at)).split(":")[0]
    wait_for(lambda: sum(r.result is not None for r in records(run)) > len(before) + 2, "it goes on", 120)
    outputs(nas("stop", job, *at))
    assert "knows no job 'another'; nas status" in outputs(nas("stop", "another", *at), code=2)
    after = {r.trial.id: r.result for r in records(run)}
    assert {number: after[number] for number in before} == before
    assert check_run(run)[0] == []


@pytest.mark.slow
def test_data_that_a_machine_lacks_is_said_before_anything_starts(cluster: TwoNodes, tmp_path):
    missing = ["data={name: cifar10, root: /nowhere}", *SMALL, "--address", cluster.address]
    said = outputs(nas("search", "cifar10_resnet8", *missing, "--run", str(tmp_path / "study")), code=2)
    assert "127.0.0.1: data set 'cifar10': '/nowhere' cannot be read (No such file or directory); set data.root" in said
    assert not records(tmp_path / "study")
    variable = ["data={name: cifar10, root: $NO_SUCH/cifar10}", *SMALL, "--address", cluster.address]
    said = outputs(nas("search", "cifar10_resnet8", *variable, "--run", str(tmp_path / "other")), code=2)
    assert "this machine has no such variable" in said
    assert "no such variable" in outputs(nas("doctor", "cifar10_resnet8", *variable), code=1)


@pytest.mark.slow
def test_doctor_looks_at_every_machine(cluster: TwoNodes):
    said = outputs(nas("doctor", "digits", "--address", cluster.address))
    assert said.count("127.0.0.1") == 2
    assert "could load the data of digits and build its model. Nothing is in the way of a run." in said


@pytest.mark.slow
def test_a_node_is_killed_in_mid_run(tmp_path):
    """The run ends with every candidate trained, on the node that is left."""
    run = tmp_path / "study"
    with two_nodes() as pair:
        long = ["trial.epochs=60", "search.trials=6"]
        process = nas("search", "digits", *SMALL, *long, "--address", pair.address, "--run", str(run))
        wait_for(lambda: all(training(raylet) for raylet in pair.raylets), "a trial on each node", 120)
        node = psutil.Process(pair.raylets[1])
        for member in [*node.children(recursive=True), node]:  # a machine takes all its processes with it
            member.kill()
        outputs(process)
    tries = whole(run, 6)
    assert set(tries) <= {1, 2}
    assert tries[2] == 1  # the trial that was lost was trained again


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["search", "digits", "--address", "127.0.0.1:1"], "nothing answers at 127.0.0.1:1 (Connection refused)"),
        (["search", "digits", "--address", "here!"], "an address is auto, HOST:PORT or ray://HOST:PORT, got 'here!'"),
        (["doctor", "--address", "127.0.0.1:1"], "nothing answers"),
        (["status", "--address", "http://127.0.0.1:1"], "nothing answers"),
        (["status", "--address", "http://127.0.0.1:1/jobs"], "an address is HOST:PORT"),
        (["status", "--address", "127.0.0.1"], "a job server's address is http://HOST:PORT"),
    ],
)
def test_addresses_where_nothing_is(tmp_path, arguments, words):
    begin = time.monotonic()
    where = ["--run", str(tmp_path / "study")] if arguments[0] == "search" else []
    assert words in outputs(nas(*arguments, *where, cwd=tmp_path), code=2)
    assert time.monotonic() - begin < 60


@pytest.mark.slow
def test_a_token_that_is_not_the_clusters(cluster: TwoNodes, tmp_path):
    wrong = environment() | {"RAY_AUTH_TOKEN": "f" * 64}
    process = start("search", "digits", "--address", cluster.address, "--run", str(tmp_path / "s"), env=wrong)
    said = finish(process, code=2)[1]
    assert "RAY_AUTH_TOKEN" in said
    assert len(said.splitlines()) == 1, said  # without Ray's own log


def test_the_examples_of_clusters_are_what_ray_reads():
    import yaml
    from ray.autoscaler._private.util import prepare_config, validate_config

    folder = Path("docs/cluster")
    validate_config(prepare_config(yaml.safe_load((folder / "ray-cluster.yaml").read_text())))
    kinds = [part["kind"] for part in yaml.safe_load_all((folder / "kuberay.yaml").read_text())]
    assert kinds == ["RayCluster", "NetworkPolicy"]
