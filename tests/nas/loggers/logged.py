"""Studies with loggers and made-up results, as a process runs them: from start to end, or some trials and a resume."""

from __future__ import annotations

from pathlib import Path

from analysis.store import FILE_NAME, Record, Store
from nas.loggers import logging_to
from nas.search import Search
from tests.made_studies import settings
from tests.nas.test_search import drive


def go_on(path: Path, *overrides: str, steps: int | None = None) -> list[Record]:
    """Begin or resume the study in ``path``, for so many trials; what has finished by then, in that order."""
    path.mkdir(exist_ok=True)
    chosen = settings(*overrides)
    new = not (path / FILE_NAME).exists()
    with Store.create(path, chosen.model_dump(mode="json")) if new else Store.open(path, write=True) as store:
        if new:
            store.put("created", "2026-01-02T03:04:05+0000")
        search = Search(chosen, store)
        with logging_to(search, path):
            drive(search, steps)
        return finished(store)


def finished(store: Store) -> list[Record]:
    return [event.record for event in store.events() if event.kind == "finish"]


def best_so_far(records: list[Record]) -> list[float | None]:
    """The best accuracy of the complete trials of the search stage, after each trial."""
    found: list[float | None] = []
    best = None
    for record in records:
        if record.trial.stage == "search" and record.result.state == "COMPLETE":
            best = max(record.result.metrics["val_accuracy"], best or 0)
        found.append(best)
    return found
