"""Where a search tells of its trials beside its store, one file each: a CSV file, TensorBoard, MLflow, W&B.

The store stays the source of truth. A logger is told a trial once its result is stored, and one that fails (a full
disk, a server that is gone) is switched off; the search goes on. When a study is resumed, a logger is given what
finished before and adds what it has missed. What a library offers is imported only if its logger is asked for.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from analysis.store import Record
from nas.config import ExperimentConfig

if TYPE_CHECKING:
    from nas.confirm import Confirmation
    from nas.search import Search


class LoggerError(ValueError):
    """A logger that cannot be used here. The message says what to do."""


class Logger(Protocol):
    """What is told of finished trials. It may raise; then it is not called again."""

    def finished(self, record: Record) -> None:
        """A trial's result was stored."""

    def close(self) -> None:
        """There will be no more, of this process."""


@dataclass(frozen=True)
class Study:
    """What a logger may know of the study.

    Attributes:
        path: its directory; a logger writes nowhere else on this machine.
        config: its configuration.
        created: when, as text. With the directory's name it identifies the study, wherever it is moved to.
        earlier: the trials that finished before, in the order of their ends.
        is_done: whether nothing is left to do.
    """

    path: Path
    config: ExperimentConfig
    created: str
    earlier: tuple[Record, ...] = ()
    is_done: Callable[[], bool] = lambda: True

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @property
    def identity(self) -> str:
        return f"{self.name} {self.created}"


_LIBRARIES = {"tensorboard": "tensorboardX", "mlflow": "mlflow-skinny", "wandb": "wandb"}

_UNTOLD = {"MLFLOW_DISABLE_TELEMETRY": "true", "WANDB_ERROR_REPORTING": "false"}
"""What is local tells nobody of its use, unless the user wants it to."""


def openers(names: Iterable[str]) -> dict[str, Callable[[Study], Logger]]:
    """By name, what opens a logger for a study.

    Raises:
        LoggerError: a library is not installed, or does not work.
    """
    found = {}
    for key, value in _UNTOLD.items():
        os.environ.setdefault(key, value)
    for name in names:
        try:
            found[name] = importlib.import_module(f"nas.loggers.{name}").open_logger
        except Exception as error:  # a library that does not fit its dependencies fails in many ways
            why = " ".join(str(error).split())[:200]
            raise LoggerError(
                f"loggers has {name}, and its library cannot be imported ({why}); pip install {_LIBRARIES.get(name)}, "
                f"or leave {name} out of loggers"
            ) from error
    return found


@contextlib.contextmanager
def logging_to(search: Search | Confirmation, path: Path) -> Iterator[None]:
    """Tell the configuration's loggers of every trial that finishes within."""
    config, store = search.config, search.store
    earlier = tuple(event.record for event in store.events() if event.kind == "finish") if config.loggers else ()
    study = Study(path, config, store.get("created", ""), earlier, lambda: search.done)
    attached = [_Attached(name, opener, study) for name, opener in openers(config.loggers).items()]
    listeners = [logger.finished for logger in attached]
    search.listeners += listeners
    try:
        yield
    finally:
        for logger in attached:
            logger.close()
        search.listeners = [other for other in search.listeners if other not in listeners]


class _Attached:
    """A logger that cannot end the search: what it raises switches it off, and is said once."""

    def __init__(self, name: str, opener: Callable[[Study], Logger], study: Study) -> None:
        self.name = name
        self._logger: Logger | None = None
        with self._kept():
            self._logger = opener(study)

    def finished(self, record: Record) -> None:
        if self._logger is not None:
            with self._kept():
                self._logger.finished(record)

    def close(self) -> None:
        logger, self._logger = self._logger, None
        if logger is not None:
            with self._kept():
                logger.close()

    @contextlib.contextmanager
    def _kept(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            broken, self._logger = self._logger, None
            why = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            print(
                f"The logger {self.name} is off from here on ({why}); the search and its store are not affected. A "
                "resume adds what it has missed.",
                file=sys.stderr,
            )
            with contextlib.suppress(Exception):  # what it holds open; it has said enough
                if broken is not None:
                    broken.close()
