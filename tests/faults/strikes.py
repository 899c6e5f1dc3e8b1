"""All the ways to break a search that we know."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from tests.faults.stage import ROOT, SECONDS, Fault, Stage
from tests.processes import family, training, wait_for

_HERE = Path(__file__).parent


def kill_worker(stage: Stage) -> str:
    stage.in_mid_run()
    wait_for(lambda: training(stage.pid), "a worker in training")[0].kill()
    return stage.ended()


def kill_driver(stage: Stage) -> str:
    """At any moment from its start on."""
    time.sleep(stage.chance.uniform(1, 25))
    members = family(stage.pid)
    os.kill(stage.pid, signal.SIGKILL)
    assert stage.process
    stage.process.communicate()
    for member in members:  # Ray's agents outlive a killed driver for a while
        with contextlib.suppress(psutil.Error):
            member.kill()
    return ""


def kill_raylet(stage: Stage) -> str:
    stage.in_mid_run()
    raylet = next(m for m in family(stage.pid) if m.name() == "raylet")
    raylet.kill()
    return stage.ended()


def interrupt(number: int, times: int) -> Callable[[Stage], str]:
    def strike(stage: Stage) -> str:
        stage.in_mid_run()
        for _ in range(times):
            os.kill(stage.pid, number)
            time.sleep(stage.chance.uniform(0.2, 1))
        said = stage.ended()
        assert stage.process
        assert times > 1 or (stage.process.returncode == 130 and "nas resume" in said), (stage.process.returncode, said)
        return said

    return strike


def remove_run(stage: Stage) -> str:
    stage.in_mid_run()
    shutil.rmtree(stage.run)
    said = stage.ended()
    found = re.search(r"nas resume (\S+)", said)
    assert found, said
    stage.run = Path(found.group(1))
    return said


def mount(size: str) -> Callable[[Stage], None]:
    """A file system of its own for the run's directory."""

    def prepare(stage: Stage) -> None:
        stage.run.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "nas-faults", str(stage.run)], check=True)

    return prepare


def fill_disk(stage: Stage) -> str:
    stage.in_mid_run()
    with contextlib.suppress(OSError), open(stage.run / "filler", "wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    said = stage.ended()
    assert "can no longer be written" in said, said
    (stage.run / "filler").unlink()
    subprocess.run(["mount", "-o", "remount,size=50m", str(stage.run)], check=True)
    return said


def make_read_only(stage: Stage) -> str:
    """After an interruption, so that the next start finds it so."""
    said = interrupt(signal.SIGINT, 1)(stage)
    subprocess.run(["mount", "-o", "remount,ro", str(stage.run)], check=True)
    refused = stage.nas("resume", str(stage.run))
    _, err = refused.communicate(timeout=SECONDS)
    assert refused.returncode == 2, err
    assert "not writable" in err, err
    subprocess.run(["mount", "-o", "remount,rw,size=50m", str(stage.run)], check=True)
    return said


def second_driver(stage: Stage) -> str:
    stage.in_mid_run()
    other = stage.nas("resume", str(stage.run))
    _, err = other.communicate(timeout=SECONDS)
    assert other.returncode == 2, err
    assert "in use by another process" in err, err
    return stage.ended()


def add_faulty_model(stage: Stage) -> None:
    tree = stage.folder / "tree"
    for name in ("nas", "analysis", "trainers", "search_spaces", "configs"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(_HERE / "faulty_model.py", tree / "trainers" / "models")
    stage.environment |= {"NAS_TEST_FAULT": str(stage.folder / "struck"), "PYTHONPATH": str(tree)}


def let_it_run(stage: Stage) -> str:
    return stage.ended()


def a_users_model(name: str, reason: str, *more: str) -> Fault:
    model = f"model={{name: faulty, fault: {name}, width: 4}}"
    return Fault(f"user's model: {name}", let_it_run, (model, *more), add_faulty_model, reason)


def wrap_clock(stage: Stage) -> None:
    library = stage.folder / "clock.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, _HERE / "clock.c", "-ldl"], check=True)
    stage.environment |= {"LD_PRELOAD": str(library), "NAS_TEST_CLOCK": str(stage.folder / "jump")}


def jump_clock(stage: Stage) -> str:
    stage.in_mid_run()
    (stage.folder / "jump").touch()
    time.sleep(3)
    (stage.folder / "jump2").touch()
    return stage.ended()


LONG = ("trial.epochs=12",)  # there is a middle to strike in
FAULTS = [
    Fault("kill -9 of a worker", kill_worker, LONG),
    Fault("kill -9 of the driver", kill_driver),
    Fault("kill -9 of the raylet", kill_raylet, LONG),
    Fault("Ctrl-C", interrupt(signal.SIGINT, 1), LONG),
    Fault("Ctrl-C twice", interrupt(signal.SIGINT, 2), LONG),
    Fault("SIGTERM", interrupt(signal.SIGTERM, 1), LONG),
    a_users_model("hang", "hung: no step for 8 s"),
    a_users_model("native_hang", "hung in native code"),
    a_users_model("leak", "out of memory: its process had", "ray.max_memory_gb=1.2"),
    a_users_model("exception", "ZeroDivisionError: the user's own"),
    a_users_model("nan", "diverged: loss nan"),
    a_users_model("inf", "diverged: loss"),
    Fault("user's model: exit", let_it_run, ("model={name: faulty, fault: exit, width: 4}",), add_faulty_model),
    Fault("the run's directory removed", remove_run, LONG),
    Fault("two drivers on one run", second_driver, ("trial.epochs=30",)),  # it takes seconds to start another
    Fault("the clock jumps", jump_clock, LONG, wrap_clock),
    Fault("disk full", fill_disk, LONG, mount("500k"), needs_root=True),
    Fault("a read-only directory", make_read_only, LONG, mount("50m"), needs_root=True),
]
