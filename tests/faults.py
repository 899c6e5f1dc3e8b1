"""Breaks searches in every way we know, with real processes, and looks at what is left.

    python -m tests.faults [--rounds 1] [--only NAME ...] [--json]

Each round starts a small search, lets a fault strike in mid-run, goes on with ``nas resume`` and compares: a trial is
lost if it had finished and is gone or changed, and doubled if it had finished and was started again, or if a function
was searched twice. ``nas check`` must find the study whole in the end. Needs Linux; two faults mount a small file
system and need root, and are left out without.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from analysis.store import Store
from nas.check import check_run
from tests.processes import family, wait_for
from trainers.trial import TrialState

ROOT = Path(__file__).resolve().parent.parent
SEARCH = [
    "search.trials=10",
    "trial.epochs=4",
    "pruning={rungs: [2], reduction_factor: 2}",
    "retrain={top: 1, seeds: 1}",
    "baselines=[ReLU]",
    "workers=2",
    "ray.hang_seconds=8",
    "search.screen=false",
]
SECONDS = 240

FAULTY_MODEL = '''
"""A user's model: a ResNet-8 that misbehaves once, in whichever process first finds it may."""
import ctypes, os, time
import torch
from torch import nn
from trainers.models import models
KEPT = []
class Faulty(nn.Module):
    def __init__(self, inner, fault):
        super().__init__()
        self.inner, self.fault = inner, fault
    def forward(self, x):
        if self.training:
            try:
                os.close(os.open(os.environ["NAS_TEST_FAULT"], os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                pass
            else:
                if self.fault == "hang":
                    while True: time.sleep(0.1)
                if self.fault == "native_hang": ctypes.PyDLL(None).sleep(10_000)
                if self.fault == "leak":
                    while True: KEPT.append(bytearray(b"x" * 20_000_000)); time.sleep(0.02)
                if self.fault == "exception": raise ZeroDivisionError("the user's own")
                if self.fault == "exit": os._exit(3)
                if self.fault in ("nan", "inf"): return self.inner(x) * float(self.fault)
        return self.inner(x)
@models.register("faulty")
def faulty(act, input_shape, num_outputs, *, fault: str = "", width: int = 4) -> nn.Module:
    return Faulty(models.get("resnet8")(act, input_shape, num_outputs, width=width), fault)
'''

CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
/* The clock of the wall jumps by a day ahead, and later by two back, for who is started with this library. */
static long jump(void) {
    const char *flag = getenv("NAS_TEST_CLOCK");
    static int state; static long calls;
    if (flag && (state < 2) && (calls++ % 64 == 0)) {
        char back[4096]; int n = 0; const char *p = flag;
        while (*p && n < 4090) back[n++] = *p++;
        back[n++] = '2'; back[n] = 0;
        if (access(back, F_OK) == 0) state = 2; else if (access(flag, F_OK) == 0) state = 1;
    }
    return state == 0 ? 0 : state == 1 ? 86400 : -86400;
}
int clock_gettime(clockid_t id, struct timespec *t) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int code = real(id, t);
    if (id == CLOCK_REALTIME) t->tv_sec += jump();
    return code;
}
int gettimeofday(struct timeval *restrict t, void *restrict zone) {
    static int (*real)(struct timeval *, void *);
    if (!real) real = dlsym(RTLD_NEXT, "gettimeofday");
    int code = real(t, zone);
    t->tv_sec += jump();
    return code;
}
"""


@dataclass
class Stage:
    """Where a round plays.

    Attributes:
        folder: for everything; removed afterwards.
        run: the study's directory.
        process: the search.
        chance: of this round.
    """

    folder: Path
    run: Path
    chance: random.Random
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    process: subprocess.Popen | None = None

    @property
    def pid(self) -> int:
        assert self.process
        return self.process.pid

    def nas(self, *arguments: str) -> subprocess.Popen:
        """The command line, from a source tree of our own if there is one, as a user's additions to it would be."""
        tree = self.folder / "tree"
        return subprocess.Popen(
            [sys.executable, "-m", "nas", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=self.environment,
            cwd=tree if tree.exists() else ROOT,
        )

    def finished(self) -> int:
        return sum(record.result is not None for record in records(self.run))

    def in_mid_run(self) -> None:
        """Wait for some trials to end, and then for a moment of chance."""
        wait_for(lambda: self.finished() >= 3, "three finished trials", SECONDS)
        time.sleep(self.chance.uniform(0, 2))

    def ended(self) -> str:
        """Wait for the search's end; what it printed."""
        assert self.process
        try:
            out, err = self.process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError("the search did not end") from None
        assert "Traceback" not in out + err, out + err
        return out + err


@dataclass(frozen=True)
class Fault:
    """A way to break a search.

    Attributes:
        name: of it.
        strike: breaks it, and waits for its end; gives what the search printed.
        arguments: of the search, beside the common ones.
        prepare: the stage, beforehand.
        reason: how the one trial that it is about has failed; None if none has.
        needs_root: whether it mounts something.
    """

    name: str
    strike: Callable[[Stage], str]
    arguments: tuple[str, ...] = ()
    prepare: Callable[[Stage], None] = lambda stage: None
    reason: str | None = None
    needs_root: bool = False


def records(run: Path):
    if not (run / "study.db").exists():
        return []
    with contextlib.suppress(ValueError), Store.open(run) as store:
        return store.records()
    return []


def attempts(run: Path) -> dict[int, int]:
    with Store.open(run) as store:
        return {record.trial.id: store.attempts(record.trial.id) for record in store.records()}


# --- faults ---


def workers(stage: Stage) -> list[psutil.Process]:
    found = []
    for member in family(stage.pid):
        with contextlib.suppress(psutil.Error):
            if "ImplicitFunc.train" in " ".join(member.cmdline()):
                found.append(member)
    return found


def kill_worker(stage: Stage) -> str:
    stage.in_mid_run()
    wait_for(lambda: workers(stage), "a worker in training")[0].kill()
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
        assert times > 1 or "nas resume" in said, said
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


def mount_small(stage: Stage) -> None:
    stage.run.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "nas-faults", str(stage.run)], check=True)


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
    (tree / "trainers" / "models" / "faulty.py").write_text(FAULTY_MODEL)
    stage.environment |= {"NAS_TEST_FAULT": str(stage.folder / "struck"), "PYTHONPATH": str(tree)}


def let_it_run(stage: Stage) -> str:
    return stage.ended()


def a_users_model(name: str, reason: str, *more: str) -> Fault:
    model = f"model={{name: faulty, fault: {name}, width: 4}}"
    return Fault(f"user's model: {name}", let_it_run, (model, *more), add_faulty_model, reason)


def wrap_clock(stage: Stage) -> None:
    (stage.folder / "clock.c").write_text(CLOCK)
    library = stage.folder / "clock.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, stage.folder / "clock.c", "-ldl"], check=True)
    stage.environment |= {"LD_PRELOAD": str(library), "NAS_TEST_CLOCK": str(stage.folder / "jump")}


def jump_clock(stage: Stage) -> str:
    stage.in_mid_run()
    (stage.folder / "jump").touch()
    time.sleep(3)
    (stage.folder / "jump2").touch()
    return stage.ended()


FAULTS = [
    Fault("kill -9 of a worker", kill_worker, ("trial.epochs=12",)),
    Fault("kill -9 of the driver", kill_driver),
    Fault("kill -9 of the raylet", kill_raylet),
    Fault("Ctrl-C", interrupt(signal.SIGINT, 1)),
    Fault("Ctrl-C twice", interrupt(signal.SIGINT, 2)),
    Fault("SIGTERM", interrupt(signal.SIGTERM, 1)),
    a_users_model("hang", "hung: no step for 8 s"),
    a_users_model("native_hang", "hung in native code"),
    a_users_model("leak", "out of memory: its process had", "ray.max_memory_gb=1.2"),
    a_users_model("exception", "ZeroDivisionError: the user's own"),
    a_users_model("nan", "diverged: loss nan"),
    a_users_model("inf", "diverged: loss"),
    Fault("user's model: exit", let_it_run, ("model={name: faulty, fault: exit, width: 4}",), add_faulty_model),
    Fault("the run's directory removed", remove_run),
    Fault("two drivers on one run", second_driver),
    Fault("the clock jumps", jump_clock, (), wrap_clock),
    Fault("disk full", fill_disk, (), mount_small, needs_root=True),
    Fault("a read-only directory", make_read_only, (), mount_small, needs_root=True),
]


# --- a round ---


@dataclass(frozen=True)
class Outcome:
    """Of one round. ``seconds``: from ``nas resume`` to the first result, or to the end if nothing was left."""

    lost: int
    doubled: int
    seconds: float | None


def play(fault: Fault, seed: int) -> Outcome:
    """One round in a folder of its own.

    Raises:
        AssertionError: something else than a trial lost or doubled is wrong.
    """
    with tempfile.TemporaryDirectory(prefix="nas-faults-") as folder:
        stage = Stage(Path(folder), Path(folder) / "run", random.Random(seed))
        try:
            fault.prepare(stage)
            model = [] if any(a.startswith("model=") for a in fault.arguments) else ["model.width=4"]
            arguments = [*SEARCH, *model, *fault.arguments]
            stage.process = stage.nas("search", "digits", *arguments, "--run", str(stage.run))
            fault.strike(stage)
            return compare(fault, stage, arguments)
        finally:
            for process in [stage.process] if stage.process else []:
                with contextlib.suppress(OSError):
                    os.killpg(process.pid, signal.SIGKILL)
            while os.path.ismount(stage.run):
                subprocess.run(["umount", "-l", str(stage.run)], check=True)


def compare(fault: Fault, stage: Stage, arguments: list[str]) -> Outcome:
    """Go on with the run, and see what became of what had finished."""
    before = {record.trial.id: record for record in records(stage.run) if record.result is not None}
    begun = attempts(stage.run) if before else {}
    seconds = resume(stage, len(before), arguments)
    after = {record.trial.id: record for record in records(stage.run)}
    tried = attempts(stage.run)
    searched = Counter(r.function_key for r in after.values() if r.trial.stage == "search")
    lost = sum(after.get(number) != record for number, record in before.items())
    doubled = sum(tried[number] != begun[number] for number in before if number in tried)
    doubled += sum(times - 1 for times in searched.values())
    assert all(record.result is not None for record in after.values()), "a trial is still running"
    assert sum(searched.values()) == 10, searched
    found, _ = check_run(stage.run) if not (stage.folder / "tree").exists() else checked_there(stage)
    assert not found, found
    failed = [r.result.reason or "" for r in after.values() if r.result and r.result.state == TrialState.FAIL]
    if fault.reason is not None:
        assert any(fault.reason in reason for reason in failed), failed
    assert not any("worker was lost" in reason for reason in failed), failed
    return Outcome(lost, doubled, seconds)


def resume(stage: Stage, done: int, arguments: list[str]) -> float:
    begin = time.monotonic()
    exists = (stage.run / "study.db").exists()  # a driver killed before that starts anew
    command = ("resume", str(stage.run)) if exists else ("search", "digits", *arguments, "--run", str(stage.run))
    process = stage.nas(*command)
    first = None
    while process.poll() is None:
        time.sleep(0.1)
        if first is None and stage.finished() > done:
            first = time.monotonic() - begin
        assert time.monotonic() - begin < SECONDS, "resume did not end"
    out, err = process.communicate()
    assert process.returncode == 0, out + err
    return time.monotonic() - begin if first is None else first


def checked_there(stage: Stage) -> tuple[list[str], object]:
    """``nas check`` where the user's model is known."""
    process = stage.nas("check", str(stage.run))
    out, err = process.communicate(timeout=SECONDS)
    return ([] if process.returncode == 0 and "; whole" in out else [out + err]), None


def possible(fault: Fault) -> bool:
    return not fault.needs_root or os.geteuid() == 0


def line_of(row: dict[str, object]) -> str:
    return (
        f"{row['fault']!s:<30} {row['rounds']!s:>6} {row['lost']!s:>6} {row['doubled']!s:>8} {row['resumed_s']!s:>10}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", nargs="*", help="Parts of names.")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    wanted = [f for f in FAULTS if possible(f) and any(part in f.name for part in arguments.only or [""])]
    rows: list[dict[str, object]] = []
    if not arguments.json:
        print(line_of({name: name for name in ("fault", "rounds", "lost", "doubled", "resumed_s")}))
    for fault in wanted:
        outcomes, wrong = [], []
        for number in range(arguments.rounds):
            try:
                outcomes.append(play(fault, number))
            except AssertionError as error:
                wrong.append(f"round {number}: {error}")
        times = [outcome.seconds for outcome in outcomes if outcome.seconds is not None]
        rows.append(
            {
                "fault": fault.name,
                "rounds": arguments.rounds,
                "lost": sum(outcome.lost for outcome in outcomes),
                "doubled": sum(outcome.doubled for outcome in outcomes),
                "resumed_s": round(max(times), 1) if times else None,
                "otherwise_wrong": wrong,
            }
        )
        if not arguments.json:
            print(line_of(rows[-1]), *(f"  {text[:1500]}" for text in wrong), sep="\n", flush=True)
    if arguments.json:
        print(json.dumps(rows, indent=1))
    sys.exit(any(row["lost"] or row["doubled"] or row["otherwise_wrong"] for row in rows))


if __name__ == "__main__":
    main()
