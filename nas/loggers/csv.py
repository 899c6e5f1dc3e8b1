"""``RUN/trials.csv``: a row for every finished trial, in the order of their ends, for pandas and spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from analysis.store import Record
from nas.loggers import Logger, Study
from trainers.trial import DIRECTIONS

FILE_NAME = "trials.csv"
COLUMNS = (
    *("finished", "id", "stage", "setting", "seed", "state", "formula", "name", "likeness", "epoch", *DIRECTIONS),
    *("seconds", "parameters", "cost", "reason", "function_key", "expression"),
)
"""``finished`` counts the ends; ``epoch`` and the metrics are those of the last report."""


def open_logger(study: Study) -> Logger:
    return _Csv(study.path / FILE_NAME, study.earlier)


def text_of(records: Iterable[Record]) -> str:
    """A whole file, header included."""
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(_row(number, record) for number, record in enumerate(records, 1))
    return written.getvalue()


def _row(number: int, record: Record) -> list[object]:
    """The cells of a finished trial; None is an empty one."""
    trial, result = record.trial, record.result
    assert result is not None
    return [
        *(number, trial.id, trial.stage, trial.setting, trial.seed, str(result.state)),
        *(record.formula, record.known_name, record.likeness),
        *(result.metrics.get(name) for name in ("epoch", *DIRECTIONS)),
        *(result.seconds, result.parameters, result.cost, result.reason, record.function_key, trial.expression),
    ]


class _Csv:
    """Appends to the file; one that does not hold what the store holds is written anew first.

    So no row is there twice or missing, although a process may be killed between the store and this file, in the
    middle of a row, or while the logger was off.
    """

    def __init__(self, path: Path, earlier: tuple[Record, ...]) -> None:
        expected = text_of(earlier).encode()
        if not path.exists() or path.read_bytes() != expected:
            new = path.with_name(f"{path.name}.new")
            new.write_bytes(expected)
            new.replace(path)  # a reader sees the old file or the new one
        self._file = path.open("a", encoding="utf-8", newline="")
        self._writer = csv.writer(self._file, lineterminator="\n")
        self._number = len(earlier)

    def finished(self, record: Record) -> None:
        self._number += 1
        self._writer.writerow(_row(self._number, record))
        self._file.flush()

    def close(self) -> None:
        self._file.close()
