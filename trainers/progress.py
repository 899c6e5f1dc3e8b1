"""How far this process has come: a count that every training step raises, for whoever watches from another thread."""

from __future__ import annotations

_steps = 0


def step() -> None:
    """A step of some kind was done; called by one thread at a time."""
    global _steps
    _steps += 1


def steps() -> int:
    """So many since the process began."""
    return _steps
