"""A study for reading: its trials, leaderboard and learning curves as tables of pandas. ``nas.Study`` is this class."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pandas as pd

from analysis.filters import Wanted
from analysis.leaderboard import COSTS, STATE_ORDER, is_descending, of_trials
from analysis.store import Store
from analysis.trials import read_epochs, read_trials, to_records
from analysis.wording import kind
from search_spaces.registry import nearest
from trainers.trial import DIRECTIONS


class StudyError(ValueError):
    """Something that a study has not, or that cannot be done with it. The message says what to do."""


class Study:
    """A run's directory, as it is now; also while the search runs. Nothing in it is changed, and nothing is executed.

    >>> study = nas.Study("runs/digits-20260101-120000")            # doctest: +SKIP
    >>> study.trials.groupby("state").size()                        # doctest: +SKIP
    >>> study.leaderboard().head()                                  # doctest: +SKIP

    Args:
        path: the directory.

    Raises:
        StoreError: it is no study, it is damaged, or of a version that is not read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.store = Store.open(self.path, check=False)

    def close(self) -> None:
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def name(self) -> str:
        """Of the directory."""
        return self.path.resolve().name

    @cached_property
    def about(self) -> dict[str, Any]:
        """What is kept about the study: ``config`` as resolved, ``nas_version``, ``machine``, ``created`` and more."""
        return dict(self.store.notes())

    @property
    def config(self) -> dict[str, Any]:
        """The configuration, as it was resolved."""
        return dict(self.about["config"])

    @property
    def objective(self) -> str:
        """The metric that functions are ranked by."""
        return objective_of(self.config)

    @property
    def settings(self) -> tuple[str, ...]:
        """Where functions were confirmed beside the study's own model and data."""
        return tuple(self.about.get("settings", {}))

    @cached_property
    def trials(self) -> pd.DataFrame:
        """A row a trial, with the columns :data:`analysis.trials.TRIAL_COLUMNS`. Read once."""
        return read_trials(self.store)

    @cached_property
    def epochs(self) -> pd.DataFrame:
        """Learning curves: a row a report of a trial, by its ``id`` and ``epoch``. Read once."""
        return read_epochs(self.store)

    def leaderboard(self, sort: str = "rank", setting: str | None = None) -> pd.DataFrame:
        """A row a function, with the columns :data:`analysis.leaderboard.COLUMNS`.

        Args:
            sort: one of :data:`analysis.leaderboard.SORT_KEYS`.
            setting: one of :attr:`settings`; None for the study's own model and data.
        """
        config = self.config if setting is None else self.about["settings"][setting]
        search = config.get("search", {})
        return of_trials(
            self.trials,
            objective=objective_of(config),
            cost=COSTS.get(search.get("cost")),
            earlier=set(self.about.get("known_keys", [])),
            sort=sort,
            setting=setting,
        )


def objective_of(config: Mapping[str, Any]) -> str:
    """The metric that a configuration ranks by."""
    return str(config.get("search", {}).get("objective", "val_accuracy"))


def is_evaluation(config: Mapping[str, Any]) -> bool:
    """Whether a study was of functions that were given (``nas eval``), and nothing was searched."""
    search = config.get("search")
    return isinstance(search, Mapping) and search.get("trials") == 0


def together(studies: Sequence[Study], wanted: Wanted, sort: str = "rank", setting: str | None = None) -> pd.DataFrame:
    """The leaderboards of several studies as one, with the column ``run`` if they are several.

    Figures of studies that trained in different ways cannot be compared; then the difference to ReLU in the study of
    its own orders the rows, and failing that, or if their differences are of different units, their place in it. Which
    column it was stands in ``attrs["order"]``.
    """
    for study in studies:
        if setting is not None and setting not in study.settings:
            hint = nearest(setting, study.settings) if study.settings else "add one with: nas confirm RUN --also CONFIG"
            raise StudyError(f"{study.path} was not confirmed in {setting!r}; {hint}")
    if len(studies) == 1:
        return wanted.of(studies[0].leaderboard(sort, setting))
    boards = [wanted.of(study.leaderboard(sort, setting)).assign(run=study.name) for study in studies]
    table = pd.concat([board for board in boards if len(board)] or boards[:1], ignore_index=True)
    if table.empty:
        return table
    configs = [study.config if setting is None else study.about["settings"][setting] for study in studies]
    table = table.assign(_state=table["state"].map(STATE_ORDER))
    order = _order(configs)
    if sort == "rank":
        stages = {"confirm": 0, "retrain": 1}
        table = table.assign(_stage=table["stage"].map(stages).fillna(2), _by=_signed(table, order))
        keys, rising = ["_state", "_stage", "_by", "rank"], [True, True, True, True]
    else:
        keys, rising = ["_state", sort], [True, not is_descending(sort, objective_of(configs[0]))]
    table = table.sort_values(keys, ascending=rising, kind="stable", na_position="last")
    table = table.drop(columns=["_state", "_stage", "_by"], errors="ignore").reset_index(drop=True)
    table.attrs["order"] = order if sort == "rank" else sort
    return table


def _order(configs: Sequence[Mapping[str, Any]]) -> str:
    """The column that can be compared between studies."""
    if len({_protocol(config) for config in configs}) == 1:
        return "value"
    return "vs_relu" if len({kind(objective_of(config)) for config in configs}) == 1 else "rank"


def _signed(table: pd.DataFrame, column: str) -> pd.Series:
    """That column, smallest for the best."""
    if column == "rank":
        return table["rank"]
    return table[column].where(table["metric"].map(DIRECTIONS) == "min", -table[column])


def write_frame(frames: Sequence[pd.DataFrame], path: Path) -> int:
    """Write tables, one below the other; the suffix is the format. Returns the number of rows.

    Raises:
        StudyError: it is no format, or the file cannot be written.
    """
    table = pd.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0]
    try:
        if path.suffix == ".parquet":
            table.to_parquet(path, index=False)
        elif path.suffix == ".csv":
            table.to_csv(path, index=False)
        elif path.suffix == ".json":
            path.write_text(json.dumps(to_records(table), indent=2), encoding="utf-8")
        else:
            raise StudyError(f"a table is written as .csv, .json or .parquet, got {path.name!r}")
    except OSError as error:
        raise StudyError(f"{path} cannot be written ({error.strerror or error})") from error
    return len(table)


def _protocol(config: Mapping[str, Any]) -> str:
    """How functions were trained."""
    names = ("model", "data", "recipe", "trial")
    return repr([config.get(name) for name in names]) + objective_of(config)
