"""Where a round plays, and what a fault is."""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.processes import records, start, wait_for

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 240


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
        return start(*arguments, env=self.environment, cwd=tree if tree.exists() else ROOT)

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
