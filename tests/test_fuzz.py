"""Some hundred bad inputs of every kind; ``python -m tests.fuzz`` throws ten thousand."""

from __future__ import annotations

import json
import subprocess
import sys


def test_bad_inputs_are_read_or_refused():
    """In a process of its own, since the look-out for executed code stays with it."""
    process = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--inputs", "280", "--seed", "20000", "--json"],
        capture_output=True,
        text=True,
        timeout=240,
    )
    found = json.loads(process.stdout)
    assert sum(found["inputs"].values()) == 280
    assert found["wrong"] == {}
