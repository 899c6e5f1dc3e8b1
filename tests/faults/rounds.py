"""A round: a search that a fault strikes, its resumption, and what became of its trials."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psutil

from nas.check import check_run
from tests.faults.stage import SECONDS, Fault, Stage
from tests.processes import attempts, records
from trainers.trial import TrialState

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
            end_orphans(folder)
            while os.path.ismount(stage.run):
                subprocess.run(["umount", "-l", str(stage.run)], check=True)


def end_orphans(folder: str) -> None:
    """Ray's workers look by a timer whether their raylet is alive, and a clock that was put back stops the timer."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any(folder in value for name, value in process.environ().items() if name.startswith("NAS_TEST_")):
                process.kill()


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
