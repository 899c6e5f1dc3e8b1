"""The terminal: results on standard output, what is only of the moment on standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def console() -> Console:
    """Standard output; what is no terminal has no width, so that a table in a file is not squeezed."""
    from rich.console import Console

    terminal = Console(highlight=False)
    return terminal if terminal.is_terminal else Console(highlight=False, width=160)


def status(text: str) -> AbstractContextManager[object]:
    """A spinner on the terminal while something takes its time; nothing elsewhere."""
    from rich.console import Console

    terminal = Console(stderr=True, highlight=False)
    return terminal.status(text) if terminal.is_terminal else nullcontext()


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on the terminal, to be told how much of what is done; nothing elsewhere."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
