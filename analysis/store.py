"""The study store: one SQLite file, written by the driver alone, the source of truth for a run.

Every trial is a row that is inserted when the trial starts and completed when it ends. Both moments get a number from
one counter (``launched``, ``finished``), so that the order of events, and with it the state of a search, can be
replayed exactly.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from analysis.schema import COLUMNS, INDEXES, PUT, READABLE, SCHEMA, VERSION, About, complexity, migrate
from analysis.store_errors import FILE_NAME as FILE_NAME
from analysis.store_errors import StoreError as StoreError
from analysis.store_errors import no_study, unreadable
from trainers.trial import Trial, TrialResult, TrialState

Row = dict[str, Any]
"""A row of the table of trials, by column."""


@dataclass(frozen=True)
class Record:
    """One row: a trial, what is known about its function, and its result once it has one.

    Attributes:
        function_key: equal for equal functions of a study.
        formula: the trial's expression in a simpler spelling, for people.
        known_name: "SiLU" for the function of that name.
        likeness: the known function that it is ("= SiLU"), up to scale, shift and reflection, or nearly is ("~ GELU");
            else "Swish family" for one that is gated like Swish, and dips below 0.
    """

    trial: Trial
    function_key: str
    formula: str
    known_name: str | None
    result: TrialResult | None
    likeness: str | None = None


@dataclass(frozen=True)
class Event:
    """A trial was launched, or finished."""

    kind: Literal["launch", "finish"]
    record: Record


class Store:
    """Access to one study. ``Store.create`` and ``Store.open`` make one; a context manager closes it."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._db = connection
        self._file = path.stat().st_ino

    @classmethod
    def create(cls, run: Path, config: dict[str, Any]) -> Store:
        """A new study in the existing directory ``run``."""
        path = run / FILE_NAME
        if path.exists():
            raise StoreError(f"{run} already holds a study; continue it with: nas resume {run}")
        new = path.with_suffix(".new")  # renamed when complete: a kill in between leaves no half-made study
        new.unlink(missing_ok=True)
        with contextlib.closing(sqlite3.connect(new, isolation_level=None)) as db:
            db.executescript(SCHEMA)
            db.executemany(PUT, [("version", json.dumps(VERSION)), ("config", json.dumps(config))])
        new.rename(path)
        return cls.open(run, write=True)

    @classmethod
    def open(cls, run: Path, *, write: bool = False, check: bool = True) -> Store:
        """An existing study; read-only unless ``write``, also while another process writes it.

        Args:
            run: its directory.
            write: whether it may be changed.
            check: read every trial once, so that damage is found here.

        Raises:
            StoreError: it is none, it is damaged, or of a version that is not read.
        """
        path = run / FILE_NAME
        try:
            if not path.is_file():
                raise no_study(run)
            idle = not path.with_name(FILE_NAME + "-wal").exists()  # nobody writes it: a read-only medium will do
            mode = "mode=rw" if write else "mode=ro&immutable=1" if idle else "mode=ro"
            db = sqlite3.connect(f"{path.resolve().as_uri()}?{mode}", uri=True, isolation_level=None)
            store = cls(path, db)
            version = store.get("version")
            if version in READABLE:
                if version != VERSION:
                    store = store if write else store._in_memory()
                    migrate(store._db)
                About.model_validate(dict(store.notes()))
            if write:
                db.executescript(INDEXES)
                db.execute("PRAGMA journal_mode=WAL")
                db.execute("PRAGMA synchronous=FULL")  # a power cut loses nothing, either
            if check and version in READABLE:
                store.records()  # what is damaged is said here
        except OSError as error:
            raise StoreError(f"{run} is not a study's directory ({error.strerror or error})") from error
        except (sqlite3.Error, KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            if isinstance(error, StoreError):
                raise
            raise unreadable(path, error) from error
        if version not in READABLE:
            raise StoreError(
                f"{path} has store version {version}, this program reads versions {READABLE[0]} to {VERSION}; use the "
                "version of nas that wrote it"
            )
        return store

    def _in_memory(self) -> Store:
        """A copy that may be changed, of a file that may not."""
        db = sqlite3.connect(":memory:", isolation_level=None)
        with contextlib.closing(self._db):
            self._db.backup(db)
        return Store(self.path, db)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._db.close()

    # --- the study -------------------------------------------------------------------------------------------------

    def put(self, key: str, value: Any) -> None:
        with self._writing() as db:
            db.execute(PUT, (key, json.dumps(value)))

    def notes(self) -> Iterator[tuple[str, Any]]:
        """All that is kept about the study."""
        for key, value in self._db.execute("SELECT key, value FROM study"):
            yield str(key), json.loads(value)

    def get(self, key: str, default: Any = None) -> Any:
        try:
            row = self._db.execute("SELECT value FROM study WHERE key = ?", (key,)).fetchone()
        except sqlite3.Error as error:  # an index may be damaged where the table is not
            raise unreadable(self.path, error) from error
        return default if row is None else json.loads(row[0])

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all of it, or nothing.

        Raises:
            StoreError: the disk is full, or the file was removed, which SQLite would not notice.
        """
        if not self.path.exists() or self.path.stat().st_ino != self._file:
            raise StoreError(f"{self.path} was removed while the study ran; {self._rescue()}")
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # a full disk may have ended it
                    self._db.execute("ROLLBACK")
                raise
        except (OSError, sqlite3.Error) as error:
            raise StoreError(
                f"{self.path} can no longer be written ({error}); what finished before is in it. Mend that, then go on "
                f"with: nas resume {self.path.parent}"
            ) from error

    def _rescue(self) -> str:
        """Write what the open file holds beside the run's directory; says where."""
        for number in itertools.count(1):
            folder = self.path.parent.with_name(f"{self.path.parent.name}-rescued{number if number > 1 else ''}")
            if not folder.exists():
                break
        try:
            folder.mkdir(parents=True)
            with self.copy(folder):
                pass
        except (OSError, sqlite3.Error, StoreError) as error:
            return f"its results could not be saved elsewhere ({error})"
        return f"its results are in {folder} now; go on with: nas resume {folder}"

    # --- trials ----------------------------------------------------------------------------------------------------

    def launch(self, record: Record) -> None:
        """Record that a trial starts; the same id again is another attempt at an interrupted one."""
        trial = record.trial
        values = (
            trial.id,
            trial.stage,
            trial.expression,
            record.function_key,
            record.formula,
            record.known_name,
            record.likeness,
            trial.seed,
            TrialState.RUNNING,
            trial.to_json(),
            complexity(trial.expression, trial.stage),
            trial.setting,
        )
        with self._writing() as db:
            db.execute(
                "INSERT INTO trials "
                "(id, stage, expression, function_key, formula, known_name, likeness, seed, state, launched, trial, "
                f"complexity, setting) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, {_NEXT_EVENT}, ?, ?, ?)"
                " ON CONFLICT(id) DO UPDATE SET attempts = attempts + 1 WHERE state = 'RUNNING'",
                values,
            )

    def finish(
        self,
        trial_id: int,
        result: TrialResult,
        likeness: str | None = None,
        notes: Mapping[str, Any] | None = None,
    ) -> None:
        """Record the outcome of a running trial, what its function is like if that is known only now, and with it what
        has changed in the study."""
        values = (
            result.state,
            result.metrics.get("val_accuracy"),
            result.metrics.get("val_loss"),
            result.seconds,
            result.parameters,
            result.reason,
            result.to_json(),
            likeness,
            trial_id,
        )
        with self._writing() as db:
            changed = db.execute(
                "UPDATE trials SET state = ?, val_accuracy = ?, val_loss = ?, seconds = ?, parameters = ?, reason = ?, "
                f"result = ?, likeness = IFNULL(?, likeness), finished = {_NEXT_EVENT} "
                "WHERE id = ? AND state = 'RUNNING'",
                values,
            ).rowcount
            if changed != 1:
                raise StoreError(f"trial {trial_id} is not running in {self.path}: a result is stored once")
            db.executemany(PUT, [(key, json.dumps(value)) for key, value in (notes or {}).items()])

    def records(self) -> list[Record]:
        """All trials in the order of their launch."""
        rows = self._db.execute(f"SELECT {_RECORD} FROM trials ORDER BY launched")
        return [_record(*row) for row in rows]

    def events(self) -> Iterator[Event]:
        """Launches and ends in the order in which they happened."""
        rows = self._db.execute(
            f"SELECT 'launch', launched AS number, {_RECORD} FROM trials UNION ALL "
            f"SELECT 'finish', finished, {_RECORD} FROM trials "
            "WHERE finished IS NOT NULL ORDER BY number"
        )
        for kind, _, *row in rows:
            yield Event(kind, _record(*row))

    def rows(self) -> Iterator[Row]:
        """The table as it is stored, for checks."""
        cursor = self._db.execute("SELECT * FROM trials ORDER BY launched")
        names = [column[0] for column in cursor.description]
        for values in cursor:
            yield dict(zip(names, values, strict=True))

    def columns(self, *names: str) -> list[tuple[Any, ...]]:
        """Some columns of all trials, in the order of their launch, as they are stored."""
        return self._db.execute(f"SELECT {', '.join(names)} FROM trials ORDER BY launched").fetchall()

    def count_states(self) -> dict[str, int]:
        """How many trials are in which state, as far as that can be read."""
        with contextlib.suppress(sqlite3.Error):
            return dict(self._db.execute("SELECT state, COUNT(*) FROM trials GROUP BY state"))
        return {}

    def damage(self) -> list[str]:
        """What SQLite itself finds wrong."""
        try:
            found = [str(line) for (line,) in self._db.execute("PRAGMA integrity_check(10)")]
        except sqlite3.Error as error:
            return [str(error)]
        return [] if found == ["ok"] else found

    def missing_columns(self) -> list[str]:
        """Of the table of trials."""
        return sorted(COLUMNS - {row[1] for row in self._db.execute("PRAGMA table_info(trials)")})

    def copy(self, run: Path) -> Store:
        """The same study in another directory, open for writing."""
        with contextlib.closing(sqlite3.connect(run / FILE_NAME)) as db:
            self._db.backup(db)
        return Store.open(run, write=True)

    def attempts(self, trial_id: int) -> int:
        """How often a trial was started; more than once after an interruption."""
        return int(self._db.execute("SELECT attempts FROM trials WHERE id = ?", (trial_id,)).fetchone()[0])


_RECORD = "trial, function_key, formula, known_name, result, likeness"
_LAST_EVENTS = "IFNULL((SELECT MAX(launched) FROM trials), 0), IFNULL((SELECT MAX(finished) FROM trials), 0)"
_NEXT_EVENT = f"(SELECT 1 + MAX({_LAST_EVENTS}))"


def _record(
    trial: str, function_key: str, formula: str, known_name: str | None, result: str | None, likeness: str | None
) -> Record:
    texts = (trial, function_key, formula, known_name or "", result or "", likeness or "")
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("a trial's columns are texts")
    outcome = None if result is None else TrialResult.from_json(result)
    return Record(Trial.from_json(trial), function_key, formula, known_name, outcome, likeness)
