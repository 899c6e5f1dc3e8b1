"""`nas compare` as a user meets it: real processes, Ctrl-C, a lost process, trainings that all fail."""

from __future__ import annotations

import contextlib
import os
import signal

import psutil
import pytest
import yaml

from tests.nas.test_comparison import SMALL
from tests.processes import family, is_running, start, wait_for

LONG = {"steps": 100_000, "seeds": 1}


def config(tmp_path, **changes):
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(SMALL | changes, sort_keys=False))
    return str(path)


def training(pid):
    """The processes of trainings that have begun to use the processor."""
    found = []
    for member in family(pid):
        with contextlib.suppress(psutil.NoSuchProcess):  # or a zombie, which is one of them
            if "spawn_main" in " ".join(member.cmdline()) and member.cpu_times().user > 3:
                found.append(member)
    return found


@pytest.mark.parametrize(
    "to_all",
    [
        pytest.param(False, marks=pytest.mark.slow, id="to the command"),
        pytest.param(True, id="to its group, as a terminal does"),
    ],
)
def test_ctrl_c_ends_everything_at_once(tmp_path, to_all):
    process = start("compare", config(tmp_path, **LONG))
    wait_for(lambda: len(training(process.pid)) == 2, "two trainings")
    members = family(process.pid)
    (os.killpg if to_all else os.kill)(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130, out + err
    assert err.splitlines()[-1] == "Interrupted; a comparison cannot be resumed."
    assert "Traceback" not in out + err
    wait_for(lambda: not any(is_running(m.pid) for m in members), "the end of all processes", 10)


def test_a_lost_process_costs_its_own_training_alone(tmp_path):
    process = start(
        "compare", config(tmp_path, **LONG, variants={"one": {}, "two": {"positions": "none"}}), "workers=1"
    )
    first = wait_for(lambda: training(process.pid), "a training")[0]
    first.kill()
    wait_for(lambda: any(p.pid != first.pid for p in training(process.pid)), "the second training")
    second = next(p for p in training(process.pid) if p.pid != first.pid)
    second.kill()
    out, err = process.communicate(timeout=20)
    assert process.returncode == 1  # nothing was trained
    assert err.count("lost its process (exit code -9)") == 2
    assert "Traceback" not in out + err


def test_a_comparison_in_which_everything_fails_exits_with_1(tmp_path):
    recipe = {"learning_rate": 1e30, "clip_norm": None}
    process = start("compare", config(tmp_path, recipe=recipe, steps=60, seeds=1, variants={"[/odd]": {}}))
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1, out + err
    assert "[/odd], seed 0: diverged: loss " in err
    assert "[/odd]  failed" in out
