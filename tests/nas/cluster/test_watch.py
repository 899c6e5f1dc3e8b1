"""The watch over a training, in processes that hang or grow."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

PROGRAM = """
import ctypes, sys, threading, time
from nas.cluster.watch import Limits, watched
from trainers import progress

def say(words):
    print(words, flush=True)

def beat():
    print("beat", time.time(), flush=True)

{body}
"""

PYTHON_HANG = "with watched(Limits(hang_seconds=2), say, beat):\n    while True: time.sleep(0.1)"
# PyDLL keeps the interpreter's lock: no other thread of Python runs
NATIVE_HANG = "with watched(Limits(hang_seconds=3), say, beat):\n    time.sleep(2.5); ctypes.PyDLL(None).sleep(1000)"
LEAK = (
    "from nas.cluster.watch import resident_bytes\n"
    "with watched(Limits(memory=resident_bytes() + 200_000_000), say, beat):\n"
    "    kept = []\n"
    "    while True: kept.append(bytearray(b'x' * 10_000_000)); progress.step(); time.sleep(0.02)"
)
# an earlier training of the process has kept most of the memory
LEFT_BEHIND = (
    "from nas.cluster.watch import resident_bytes\n"
    "with watched(Limits(), say, beat): kept = [bytearray(b'x' * 10_000_000) for _ in range(40)]\n"
    "with watched(Limits(memory=resident_bytes() + 50_000_000), say, beat):\n"
    "    while True: kept.append(bytearray(b'x' * 10_000_000)); progress.step(); time.sleep(0.2)"
)
STEADY = (
    "with watched(Limits(hang_seconds=2, memory=10**11), say, beat):\n"
    "    for _ in range(40): progress.step(); time.sleep(0.1)\n"
    "time.sleep(3)\nprint('done')"
)


def run(body: str) -> tuple[int, str, float]:
    begin = time.monotonic()
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(body=body)], capture_output=True, text=True, timeout=60
    )
    return process.returncode, process.stdout, time.monotonic() - begin


def test_a_training_without_steps_is_ended_with_the_reason():
    code, out, _ = run(PYTHON_HANG)
    assert code == 1
    assert "hung: no step for 2 s (ray.hang_seconds); it stood in <module>" in out


def test_one_that_hangs_in_native_code_is_ended_too():
    code, out, seconds = run(NATIVE_HANG)
    assert code == 1
    assert "hung" not in out  # no thread of Python's could say so
    assert "beat" in out  # but there were signs of life before
    assert seconds < 30
    last = float(out.splitlines()[-1].split()[1])
    assert time.time() - last > 7  # silent for longer than hang_seconds, though its start took most of them


def test_one_that_takes_too_much_memory_is_ended():
    code, out, _ = run(LEAK)
    assert code == 1
    assert "out of memory: its process had" in out
    assert "ray.max_memory_gb" in out


def test_one_in_a_process_that_others_have_filled_is_ended_without_blame():
    """So that it is run again, in another process."""
    code, out, _ = run(LEFT_BEHIND)
    assert (code, out) == (1, "")


def test_one_that_goes_on_is_left_alone_and_so_is_what_comes_after():
    code, out, _ = run(STEADY)
    assert code == 0
    assert out.splitlines()[-1] == "done"


@pytest.mark.parametrize("limit", ["Limits()", "Limits(hang_seconds=None, memory=None)"])
def test_no_limits(limit):
    code, out, _ = run(f"with watched({limit}, say, beat):\n    time.sleep(1.5)\nprint('done')")
    assert (code, out) == (0, "done\n")
