"""What is seen while a search runs: a live panel on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from nas.search import RELAX, RETRAIN, SEARCH, Search
from trainers.trial import METRICS, TrialState

_REDRAW_SECONDS = 0.25
_PLAIN_SECONDS = 10.0


class ProgressView:
    """A context manager; call it whenever something may have changed, it draws as often as is useful."""

    def __init__(self, search: Search, console: Console, run: str) -> None:
        self.search = search
        self.console = console
        self.run = run
        self._start = time.monotonic()
        self._drawn = 0.0
        self._before = self._finished()
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live = Live(self._panel(), console=self.console, auto_refresh=False, transient=True)
            self._live.__enter__()
        else:
            self._print(f"{self._title()}; run directory {self.run}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.__exit__(kind, error, trace)
        self._print(self._line())

    def __call__(self) -> None:
        now = time.monotonic()
        wait = _REDRAW_SECONDS if self._live else _PLAIN_SECONDS
        if now - self._drawn < wait:
            return
        self._drawn = now
        if self._live is not None:
            self._live.update(self._panel(), refresh=True)
        else:
            self._print(self._line())

    # --- numbers ---------------------------------------------------------------------------------------------------

    def _finished(self) -> int:
        return sum(n for (_, state), n in self.search.counts.items() if state != TrialState.RUNNING)

    def _rate(self) -> float | None:
        """Trials finished a second, since this process started on the run."""
        done, elapsed = self._finished() - self._before, time.monotonic() - self._start
        return done / elapsed if done else None

    def _seconds_left(self) -> float | None:
        rate = self._rate()
        if rate is None:
            return None
        s = self.search
        to_search = 0 if s.search_over else s.config.search.trials - s.launched(SEARCH)
        if s.config.search.minutes is not None:
            to_search = min(to_search, int(rate * max(0.0, 60 * s.config.search.minutes - s.search_seconds)))
        return (to_search + s.running() + s.remaining_retrainings) / rate

    # --- views -----------------------------------------------------------------------------------------------------

    def _title(self) -> str:
        c = self.search.config
        return (
            f"{c.name}: {c.strategy.name} over {c.space.name}, {c.model.name} on {c.data.name}, {self.search.precision}"
        )

    def _best(self) -> str:
        best = self.search.best
        if best is None:
            return "none yet"
        metric = self.search.objective.metric
        value = best.value if METRICS[metric] == "max" else -best.value
        shown = f"{100 * value:.2f} %" if metric == "val_accuracy" else f"{metric} {value:.4f}"
        name = f"  {best.record.likeness}" if best.record.likeness else ""
        return f"{shown}  {best.record.formula}{name}"

    def _speed(self) -> str:
        rate, left = self._rate(), self._seconds_left()
        if rate is None or left is None:
            return "starting"
        return f"{60 * rate:.0f} candidates/min, {left // 60:.0f}:{left % 60:02.0f} left"

    def _states(self) -> str:
        stages = (RELAX, SEARCH, RETRAIN)
        count = {state: sum(self.search.counts[s, state] for s in stages) for state in TrialState}
        return (
            f"{count[TrialState.COMPLETE]} complete, {count[TrialState.PRUNED]} pruned, "
            f"{count[TrialState.FAIL]} failed, {count[TrialState.RUNNING]} running"
        )

    def _line(self) -> str:
        s = self.search
        return (
            f"[{s.launched(SEARCH)}/{s.config.search.trials} searched, {s.launched(RETRAIN)} retrained] "
            f"{self._states()}; best {self._best()}; {self._speed()}"
        )

    def _panel(self) -> Group:
        s = self.search
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="dim", min_width=8)
        grid.add_column()
        launched, retrained = s.launched(SEARCH), s.launched(RETRAIN)
        total = s.config.search.trials if not s.search_over else launched
        grid.add_row("search", _bar(launched - s.running(SEARCH), total))
        grid.add_row("retrain", _bar(retrained - s.running(RETRAIN), retrained + s.remaining_retrainings))
        p = s.proposals
        known = f"{p['asked']} asked, {p['duplicates']} known already, {p['filtered']} filtered before training"
        for label, text in (
            ("trials", self._states()),
            ("asked", known),
            ("best", self._best()),
            ("speed", self._speed()),
            ("run", self.run),
        ):
            grid.add_row(label, Text(text, overflow="ellipsis", no_wrap=True))
        return Group(Text(self._title(), style="bold"), grid)

    def _print(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


def _bar(done: int, total: int) -> Table:
    row = Table.grid(padding=(0, 1))
    row.add_row(ProgressBar(total=max(total, 1), completed=done, width=40), f"{done}/{total}")
    return row
