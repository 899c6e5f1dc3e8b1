"""Starting the command line as a user does, looking after its processes, and into the store that they fill."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from analysis.store import Store


def start(*arguments: str, env: dict[str, str] | None = None, cwd: Path | None = None) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "nas", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # a shell lets what it starts in the background ignore Ctrl-C, and that is inherited
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        env=env,
        cwd=cwd,
    )


def family(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def workers(pid: int, doing: str = "") -> list[psutil.Process]:
    """The processes that run trials or wait for one, of those that a driver or a raylet started."""
    found = []
    for member in family(pid):
        with contextlib.suppress(psutil.Error):
            if f"ImplicitFunc{doing}" in " ".join(member.cmdline()):
                found.append(member)
    return found


def training(pid: int) -> list[psutil.Process]:
    """Those of them that train now."""
    return workers(pid, ".train")


def finish(process: subprocess.Popen, code: int = 0) -> tuple[str, str]:
    """What it printed and what it complained of, in the end; never a traceback."""
    out, err = process.communicate(timeout=240)
    assert process.returncode == code, out + err
    assert "Traceback" not in err, err
    return out, err


def wait_for(condition, what: str, seconds: float = 90):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError(f"{what} did not happen within {seconds} s")


def is_running(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def records(run: Path):
    """Of a study that may be just being created."""
    if not (run / "study.db").exists():
        return []
    with contextlib.suppress(ValueError), Store.open(run) as store:
        return store.records()
    return []


def attempts(run: Path) -> dict[int, int]:
    """How often each trial was started, by its number."""
    with Store.open(run) as store:
        return {record.trial.id: store.attempts(record.trial.id) for record in store.records()}
