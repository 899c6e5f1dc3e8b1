"""The search on real Ray: real processes, real kills."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from nas.check import check_run
from tests import processes
from tests.processes import attempts, family, is_running, records, start, training, wait_for, workers
from trainers.trial import TrialState

SMALL = [
    "search.trials=8",
    "trial.epochs=3",
    "pruning={rungs: [1], reduction_factor: 2}",
    "retrain={top: 1, seeds: 2}",
    "baselines=[ReLU]",
    "model.width=4",
    "workers=2",
]


def finish(process: subprocess.Popen) -> str:
    out, err = processes.finish(process)
    assert err == "", err  # nothing of Ray's chatter
    return out


def finished(path: Path, at_least: int):
    done = [r for r in records(path) if r.result is not None]
    return done if len(done) >= at_least else None


def test_a_search_through_ray(tmp_path):
    """It finishes, listens on loopback only, re-uses its workers and leaves neither processes nor files behind."""
    run = tmp_path / "study"
    home_files = set(Path.home().glob(".ray/*"))
    process = start("search", "digits", *SMALL, "--run", str(run))
    wait_for(lambda: finished(run, 3), "three finished trials")
    members = family(process.pid)
    listening = [
        connection.laddr.ip
        for member in [psutil.Process(process.pid), *members]
        for connection in member.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    wait_for(lambda: len(workers(process.pid)) == 2, "two workers at a time")
    output = finish(process)

    assert len(listening) >= 4
    assert {ip.removeprefix("::ffff:") for ip in listening} == {"127.0.0.1"}
    wait_for(lambda: not any(is_running(m.pid) for m in members), "the end of all processes", 20)
    assert not list(Path(tempfile.gettempdir()).glob(f"nas-ray-{process.pid}-*"))
    assert set(Path.home().glob(".ray/*")) == home_files
    assert "Exported winner" in output

    rows = records(run)
    assert Counter(r.trial.stage for r in rows)["search"] == 8
    assert all(r.result is not None for r in rows)
    assert len({r.function_key for r in rows if r.trial.stage == "search"}) == 8
    states = Counter(r.result.state for r in rows)
    assert states[TrialState.COMPLETE] >= 4
    pruned = [r for r in rows if r.result.state == TrialState.PRUNED]
    assert all(len(r.result.history) == 1 and r.result.parameters for r in pruned)  # stopped at the rung, nothing lost
    assert {r.result.environment["device"] for r in rows if r.result.environment} <= {"cpu", "cuda"}


def test_ray_and_inline_agree(tmp_path):
    """One worker: the same trials with the same figures, whichever executor runs them."""
    results = []
    for executor in ("ray", "inline"):
        run = tmp_path / executor
        finish(start("search", "digits", *SMALL, "workers=1", f"executor={executor}", "--run", str(run)))
        results.append([(r.trial.stage, r.trial.expression, r.result.state, r.result.metrics) for r in records(run)])
    assert results[0] == results[1]


def test_resume_after_the_driver_was_killed(tmp_path):
    """kill -9 in mid-search: what was finished is kept as it was, the rest is trained, nothing twice."""
    run = tmp_path / "study"
    process = start("search", "digits", *SMALL, "search.trials=12", "--run", str(run))
    wait_for(lambda: finished(run, 4), "four finished trials")
    members = family(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    before = {r.trial.id: r for r in records(run) if r.result is not None}
    assert len(before) >= 4

    output = finish(start("resume", str(run)))
    assert "Exported winner" in output
    after = {r.trial.id: r for r in records(run)}
    assert {number: after[number] for number in before} == before
    searched = [r for r in after.values() if r.trial.stage == "search"]
    assert len(searched) == len({r.function_key for r in searched}) == 12
    assert all(r.result is not None for r in after.values())
    for member in members:  # Ray's agents outlive a killed driver for a while: they are ours, so they go with the test
        if is_running(member.pid):
            member.kill()


@pytest.mark.slow
def test_a_confirmation_goes_on_after_its_driver_was_killed(tmp_path):
    run = tmp_path / "study"
    finish(start("search", "digits", *SMALL, "search.trials=4", "--run", str(run)))
    command = ("confirm", str(run), "--top", "1", "--seeds", "8")

    def confirmed():
        return {r.trial.id: r for r in records(run) if r.trial.stage == "confirm" and r.result is not None}

    process = start(*command)
    wait_for(lambda: len(confirmed()) >= 3, "three finished confirmations")
    members = family(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    for member in members:
        with contextlib.suppress(psutil.Error):
            member.kill()
    before = confirmed()
    finish(start(*command))
    after = confirmed()
    assert {number: after[number] for number in before} == before
    trained = Counter((r.function_key, r.trial.seed) for r in after.values())
    assert set(trained.values()) == {1}
    assert len(trained) == 8 * len({key for key, _ in trained})
    assert {attempts(run)[number] for number in before} == {1}
    assert check_run(run)[0] == []


def training_worker(process: subprocess.Popen, run: Path) -> psutil.Process | None:
    """A process that trains, once a trial has ended."""
    if not finished(run, 1):
        return None
    return next(iter(training(process.pid)), None)


@pytest.mark.slow  # test_faults has it, too
def test_a_trial_whose_worker_is_lost_is_trained_again(tmp_path):
    run = tmp_path / "study"
    short = ["search.trials=4", "trial.epochs=10", "pruning=null", "baselines=[]"]
    process = start("search", "digits", *SMALL, *short, "--run", str(run))
    wait_for(lambda: training_worker(process, run), "a worker in training").kill()
    finish(process)
    rows = records(run)
    assert sorted(attempts(run).values()) == [1] * (len(rows) - 1) + [2]
    assert not [r.result.reason for r in rows if "worker" in (r.result.reason or "")]
    assert Counter(r.trial.stage for r in rows)["search"] == 4


@pytest.mark.slow
def test_packages_of_the_users_folder_do_not_hide_ours(tmp_path):
    """Ray would put the working directory first on the path of its workers."""
    for name in ("analysis", "trainers", "search_spaces"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('the user has a package of this name')")
    script = Path(sys.executable).with_name("nas")
    process = subprocess.run(
        [script, "search", "digits", *SMALL, "search.trials=2", "baselines=[]", "retrain.top=0", "--run", "run"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert process.returncode in (0, 1), process.stdout + process.stderr  # 1: both candidates diverged
    rows = records(tmp_path / "run")
    assert len(rows) == 2
    assert all(r.result.parameters for r in rows)  # trained, whatever came of it


@pytest.mark.slow
def test_workers_that_cannot_start_are_not_the_candidates_fault(tmp_path, monkeypatch):
    """Nothing is recorded as failed, and the search ends with the reason."""
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "sklearn.py").write_text("import os; os._exit(7)")  # every worker dies while it loads the digits
    run = tmp_path / "study"
    program = (
        "import sys, sklearn.datasets, os; os.environ['PYTHONPATH'] = sys.argv.pop(1); from nas.cli import main; main()"
    )
    command = [sys.executable, "-c", program, str(broken), "search", "digits", *SMALL, "--run", str(run)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert "no worker process could run a trial" in processes.finish(process, code=2)[1]
    assert not finished(run, 1)


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_ctrl_c_says_how_to_go_on(tmp_path, number):
    run = tmp_path / "study"
    process = start("search", "digits", *SMALL, "search.trials=60", "--run", str(run))
    wait_for(lambda: finished(run, 3), "three finished trials")
    members = family(process.pid)
    os.kill(process.pid, number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, out + err
    assert f"nas resume {run}" in out
    assert "Traceback" not in out + err
    wait_for(lambda: not any(is_running(m.pid) for m in members), "the end of all processes", 20)
    assert len(records(run)) < 60


@pytest.mark.slow
def test_the_shipped_digits_search(tmp_path):
    """The whole of 'make search': over 100 functions trained, ten retrained with three seeds, within three minutes."""
    run = tmp_path / "study"
    begin = time.monotonic()
    process = start("search", "digits", "--run", str(run))
    finish(process)
    print(f"\nnas search digits: {time.monotonic() - begin:.0f} s")
    rows = records(run)
    assert len({r.function_key for r in rows if r.trial.stage == "search"}) >= 100
    seeds = Counter(r.function_key for r in rows if r.trial.stage == "retrain")
    assert sum(n == 3 for n in seeds.values()) >= 10


def python(program: str) -> str:
    """In a process of its own, since Ray reads its environment once."""
    settled = f"from nas.cluster.environment import settle\nsettle(None)\n{program}"
    done = subprocess.run([sys.executable, "-c", settled], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_worker_that_ray_ended_for_its_memory_is_a_lost_worker():
    """Tune tells whoever waits for it, instead of ending the run with an error."""
    said = python("""
from types import SimpleNamespace
from unittest.mock import Mock
import ray
from ray.air.execution._internal.actor_manager import RayActorManager
from nas.cluster.tune import _described

actor = SimpleNamespace(actor_id=1, _on_error=lambda actor, error: print("of the actor:", _described(error)))
task = SimpleNamespace(_tracked_actor=actor, _on_error=lambda actor, error: print("of the task:", _described(error)))
RayActorManager._actor_task_failed(Mock(), task, ray.exceptions.OutOfMemoryError("running low on memory"))
""")
    why = "its machine's memory was used up, and Ray ended it"
    assert said.splitlines() == [f"of the actor: {why}", f"of the task: {why}"]


@pytest.mark.skipif(sys.platform != "linux", reason="heaps of glibc")
def test_threads_of_a_worker_share_one_heap():
    """Tune runs every trial in another thread; with heaps of their own each would keep what its largest trial took."""
    heaps = python("""
import ray
from nas.cluster.session import connected


def heaps():
    import ctypes, pathlib, tempfile, threading

    import torch

    over, ready = threading.Event(), threading.Barrier(9)

    def work():
        torch.ones(1000)
        ready.wait()
        over.wait()

    for _ in range(8):
        threading.Thread(target=work, daemon=True).start()
    ready.wait()
    libc = ctypes.CDLL(None)
    libc.fopen.restype = ctypes.c_void_p
    path = tempfile.mktemp()
    file = ctypes.c_void_p(libc.fopen(path.encode(), b"w"))
    libc.malloc_info(0, file)  # XML, with an element for each heap
    libc.fclose(file)
    over.set()
    return pathlib.Path(path).read_text().count("<heap nr=")


with connected(None, 1, 0):
    print(ray.get(ray.remote(heaps).options(num_cpus=1).remote()))
""")
    assert int(heaps) == 1
