"""What is seen while a search or a confirmation runs: a live panel on a terminal, else a plain line now and then."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from nas.confirm import Confirmation
from nas.search import RELAX, RETRAIN, SEARCH, Search
from trainers.trial import METRICS, TrialState

_REDRAW_SECONDS = 0.25
_PLAIN_SECONDS = 10.0
_TELLING = 10
"""Trials after which their rate says how long the rest takes; the first ones wait for workers to start."""


class _View(ABC):
    """A context manager; call it whenever something may have changed, it draws as often as is useful."""

    def __init__(self, console: Console, run: str) -> None:
        self.console = console
        self.run = run
        self._start = time.monotonic()
        self._drawn = 0.0
        self._before = self._finished()
        self._live: Live | None = None
        self._over = False

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
        self._over = True
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

    def _speed(self) -> str:
        """Trials finished a minute, since this process started on the run; how long the others take, once it shows."""
        done, elapsed = self._finished() - self._before, time.monotonic() - self._start
        if not done:
            return "starting"
        rate = done / elapsed
        speed, left = f"{60 * rate:.0f} candidates/min", self._left(rate)
        if not left or done < min(_TELLING, (done + left) / 5):
            return speed
        minutes, seconds = divmod(round(left / rate), 60)
        return f"{speed}, {minutes}:{seconds:02} left"

    def _panel(self) -> Group:
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="dim", min_width=8)
        grid.add_column()
        for label, value in self._rows():
            grid.add_row(label, Text(value, overflow="ellipsis", no_wrap=True) if isinstance(value, str) else value)
        return Group(Text(self._title(), style="bold"), grid)

    def _print(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _in_words(self, count: Mapping[TrialState, int]) -> str:
        """How many are in which state; those that ran when all was interrupted will run again."""
        words = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
        text = ", ".join(f"{count.get(state, 0)} {word}" for state, word in words.items())
        running = count.get(TrialState.RUNNING, 0)
        if self._over:
            return f"{text}, {running} interrupted" if running else text
        return f"{text}, {running} running"

    @abstractmethod
    def _finished(self) -> int:
        """Trials that have ended."""

    @abstractmethod
    def _left(self, rate: float) -> float:
        """Trials that have not; at most so many a second will."""

    @abstractmethod
    def _title(self) -> str: ...

    @abstractmethod
    def _line(self) -> str:
        """All in one line."""

    @abstractmethod
    def _rows(self) -> Iterator[tuple[str, str | Table]]:
        """Labels and what stands behind them in the panel."""


class ProgressView(_View):
    """Of a search."""

    def __init__(self, search: Search, console: Console, run: str) -> None:
        self.search = search
        super().__init__(console, run)

    def _finished(self) -> int:
        return sum(n for (_, state), n in self.search.counts.items() if state != TrialState.RUNNING)

    def _left(self, rate: float) -> float:
        s = self.search
        to_search = 0 if s.search_over else s.config.search.trials - s.launched(SEARCH)
        if s.config.search.minutes is not None:
            to_search = min(to_search, int(rate * max(0.0, 60 * s.config.search.minutes - s.search_seconds)))
        return to_search + s.running() + s.remaining_retrainings

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

    def _states(self) -> str:
        stages = (RELAX, SEARCH, RETRAIN)
        count = {state: sum(self.search.counts[s, state] for s in stages) for state in TrialState}
        return self._in_words(count)

    def _line(self) -> str:
        s = self.search
        searched, retrained = (s.launched(stage) - s.running(stage) for stage in (SEARCH, RETRAIN))
        return (
            f"[{searched}/{s.config.search.trials} searched, {retrained} retrained] "
            f"{self._states()}; best {self._best()}; {self._speed()}"
        )

    def _rows(self) -> Iterator[tuple[str, str | Table]]:
        s = self.search
        launched, retrained = s.launched(SEARCH), s.launched(RETRAIN)
        total = s.config.search.trials if not s.search_over else launched
        yield "search", _bar(launched - s.running(SEARCH), total)
        yield "retrain", _bar(retrained - s.running(RETRAIN), retrained + s.remaining_retrainings)
        p = s.proposals
        yield "trials", self._states()
        yield "asked", f"{p['asked']} asked, {p['duplicates']} known already, {p['filtered']} set aside untrained"
        yield "best", self._best()
        yield "speed", self._speed()
        yield "run", self.run


class EvaluationView(ProgressView):
    """Of a study that searches nothing."""

    def _title(self) -> str:
        c = self.search.config
        numbers = ((len(c.retrain.functions), "function"), (len(c.baselines), "baseline"))
        what = " and ".join(f"{number} {word}{'s' * (number > 1)}" for number, word in numbers if number)
        return f"{c.name}: {what}, {c.model.name} on {c.data.name}, {self.search.precision}"

    def _total(self) -> int:
        return self.search.launched(RETRAIN) + self.search.remaining_retrainings

    def _line(self) -> str:
        return f"[{self._finished()}/{self._total()} trained] {self._states()}; {self._speed()}"

    def _rows(self) -> Iterator[tuple[str, str | Table]]:
        yield "train", _bar(self._finished(), self._total())
        yield "trials", self._states()
        yield "speed", self._speed()
        yield "run", self.run


class ConfirmView(_View):
    """Of a confirmation."""

    def __init__(self, confirmation: Confirmation, console: Console, run: str) -> None:
        self.confirmation = confirmation
        super().__init__(console, run)

    def _finished(self) -> int:
        return self.confirmation.total - self.confirmation.left

    def _left(self, rate: float) -> float:
        return self.confirmation.left

    def _title(self) -> str:
        c = self.confirmation
        names = [f"{s.config.model.name} on {s.config.data.name}" for s in c.settings]
        return f"{c.config.name}: confirming on the test set, {', '.join(names)}, {c.precision}"

    def _line(self) -> str:
        c = self.confirmation
        return f"[{self._finished()}/{c.total} confirmed] {self._in_words(c.counts)}; {self._speed()}"

    def _rows(self) -> Iterator[tuple[str, str | Table]]:
        yield "confirm", _bar(self._finished(), self.confirmation.total)
        yield "trials", self._in_words(self.confirmation.counts)
        yield "speed", self._speed()
        yield "run", self.run


def _bar(done: int, total: int) -> Table:
    row = Table.grid(padding=(0, 1))
    row.add_row(ProgressBar(total=max(total, 1), completed=done, width=40), f"{done}/{total}")
    return row
